"""`python -m sandboxes.conformance [--backend NAME]`: the suite with the standard library alone, a JSON object a line.

Exit status: 0 if everything was held, 1 if not, 2 if there is no such sandbox here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from sandboxes.base import SandboxError
from sandboxes.choose import choose
from sandboxes.conformance.host import planted
from sandboxes.conformance.suite import check
from sandboxes.pool import Options


async def run(backend: str) -> int:
    with planted() as host:
        chosen = await choose(backend, options=Options(slots=1), unsafe=backend == "none")
        print(json.dumps({"isolation": asdict(chosen.sandbox.isolation), "refused": dict(chosen.refused)}), flush=True)
        wrong = 0
        async for finding in check(chosen.sandbox, host):
            print(json.dumps(asdict(finding)), flush=True)
            wrong += finding.wrong is not None
        await chosen.sandbox.close()
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="sandboxes.conformance", description="Attacks a sandbox of this machine.")
    parser.add_argument("--backend", default="auto", help="auto, zygote, landlock, bubblewrap or none")
    try:
        return asyncio.run(run(parser.parse_args().backend))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
