"""The peers' environments: `python -m benchmarks.peers install|list|check [NAME ...]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import comparing
from benchmarks.comparing import Side
from benchmarks.peers import problem
from benchmarks.peers.participants import OURS, PEERS, Participant
from benchmarks.peers.protocol import PeerError
from benchmarks.peers.workloads import GROUPS, Workload, workloads_of
from fastcnn.datasets import mnist


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one of the three; 1 where a peer fails."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "what",
        choices=("install", "list", "check"),
        help="install makes each its virtual environment, list says what is there, "
        "check shows that all compute the same network as fastcnn",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(PEERS)} (default: all)")
    parser.add_argument(
        "--workloads",
        nargs="+",
        default=[group for group in GROUPS if group != "reach"],
        metavar="NAME",
        help="to check: see the report's",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(PEERS):
        parser.error(f"unknown peer {', '.join(sorted(unknown))}; expected some of {', '.join(PEERS)}")
    chosen = [peer for name, peer in PEERS.items() if not options.names or name in options.names]
    if options.what == "check":
        try:
            return check(chosen, workloads_of(options.workloads))
        except ValueError as error:
            parser.error(str(error))
    return {"install": install, "list": show}[options.what](chosen)


def install(peers: Sequence[Participant]) -> int:
    """Make the environments of those that need one."""
    failed = 0
    for peer in peers:
        if not peer.installed_apart:
            continue
        print(f"{peer.name}: installing {peer.requirements.name}", flush=True)
        try:
            peer.install()
        except PeerError as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


def show(peers: Sequence[Participant]) -> int:
    """Say which are there."""
    for peer in peers:
        print(f"{peer.name:8} {peer.title:22} {peer.missing() or 'ready'}")
    return 0


def check(peers: Sequence[Participant], workloads: Sequence[Workload]) -> int:
    """Run every variant of every workload for a few batches, and hold its result against fastcnn's."""
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        problem.make(mnist.train_images(), mnist.train_labels(), mnist.test_images()).save(path)
        for workload in workloads:
            for peer in peers:
                with ExitStack() as stack:
                    about = f"{workload.name:30} {peer.name:8}"
                    try:
                        ours = comparing.start(OURS, workload, path, stack)
                        side = comparing.start(peer, workload, path, stack)
                        variants = side.variants(workload)
                    except PeerError as error:
                        print(about, error)
                        failed = True
                        continue
                    for variant in variants:
                        text, wrong = _check_variant(side, variant, ours, workload, peer)
                        print(f"{about} {variant:42} {text}", flush=True)
                        failed |= wrong
    return int(failed)


def _check_variant(side: Side, variant: str, ours: Side, workload: Workload, peer: Participant) -> tuple[str, bool]:
    """What to print, and whether it is bad."""
    try:
        return f"{comparing.difference(side, variant, ours, workload, peer.ties):.1e} from fastcnn", False
    except PeerError as error:
        return str(error), True


if __name__ == "__main__":
    sys.exit(main())
