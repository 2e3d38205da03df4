"""Are the stored tables still what today's code would make? `python -m spectral_experiments check [tables]`.

`check` compares constants and witnesses, and runs one stored row of every setting again: half an hour for all tables.
`refresh TABLES` stores today's witnesses, for a change that tiny runs alone can see; it refuses where a constant has
changed, or a row no longer comes out as it is stored: then the script has to be run again.
"""

import argparse
import importlib
import sys

from spectral_experiments import NAMES


def main(argv=None) -> str | None:
    """What is wrong, or None."""
    parser = argparse.ArgumentParser(prog="python -m spectral_experiments", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("check", "refresh"))
    parser.add_argument("tables", nargs="*", metavar="table", help=f"of {', '.join(NAMES)}; to check, all by default")
    asked = parser.parse_args(argv)
    if unknown := set(asked.tables) - set(NAMES):
        parser.error(f"tables must be of {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    if asked.command == "refresh" and not asked.tables:
        parser.error("tables must be named to be refreshed")
    found = []
    for name in asked.tables or NAMES:
        table = importlib.import_module(f"spectral_experiments.{name}").TABLE
        if asked.command == "refresh":
            table.refresh()
            print(f"{name}: witnesses refreshed", flush=True)
            continue
        wrong = table.changed_constants() + table.changed_witnesses() + table.changed_rows()
        print(f"{name}: {'; '.join(wrong) or 'as it is stored'}", flush=True)
        found += wrong
    return f"{len(found)} differences" if found else None


if __name__ == "__main__":
    sys.exit(main())
