"""Convolutions, alone and with the pooling behind them: the operations, then each way to compute them."""
