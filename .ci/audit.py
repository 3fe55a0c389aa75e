"""Audit the locked requirements for known vulnerabilities; where there is no data to audit them with, say so.

Usage: audit.py REQUIREMENTS, with pip-audit on the PATH. The exit status is 1 if a vulnerability is known.
"""

import json
import subprocess
import sys
from typing import Any


def report(dependencies: list[dict[str, Any]]) -> int:
    """Print what is known of each; return the exit status."""
    skipped = [each for each in dependencies if "skip_reason" in each]
    vulnerable = [each for each in dependencies if each.get("vulns")]
    for each in vulnerable:
        for found in each["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            print(f"{each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    if dependencies and len(skipped) == len(dependencies):
        print("NOT AUDITED: the package index here has no data on vulnerabilities.")
    else:
        for each in skipped:
            print(f"{each['name']}: not audited, {each['skip_reason']}")
        print(
            f"{len(dependencies) - len(skipped)} of {len(dependencies)} packages audited, {len(vulnerable)} vulnerable"
        )
    return 1 if vulnerable else 0


def main(requirements: str) -> int:
    """Run pip-audit, and report; return the exit status."""
    command = ["pip-audit", "--require-hashes", "--disable-pip", "--format=json", f"--requirement={requirements}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed program
    try:
        found = json.loads(ended.stdout)
    except ValueError:
        print(f"NOT AUDITED: pip-audit could not be run here.\n{ended.stderr[-2000:]}")
        return 0
    return report(found["dependencies"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
