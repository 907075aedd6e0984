"""Look for known vulnerabilities in the packages that locks pin: `python requirements/audit.py LOCK...`.

Exit code 0 if there are none or the advisories cannot be reached, 1 if there are some, 2 if the audit fails otherwise.
"""

import re
import subprocess
import sys

# OSV rather than pip-audit's default, PyPI's JSON API: mirrors lack that and answer 404, which pip-audit reports as "No
# known vulnerabilities found".
AUDIT = [sys.executable, "-m", "pip_audit", "--vulnerability-service=osv", "--strict", "--require-hashes"]
AUDIT += ["--disable-pip", "--progress-spinner=off", "--format=columns", "--output=stdout"]
# pip-audit handles only one of the ways in which a connection fails; the others end it with the exception of requests.
UNREACHABLE = re.compile(
    r"^requests\.exceptions\.(?:ConnectionError|ProxyError|ReadTimeout): (.+)|(Could not connect to .+)", re.MULTILINE
)


def main(locks: list[str]) -> int:
    """Audit the locks and return the exit code. pip-audit's own is 1 for vulnerabilities and for errors."""
    audit = subprocess.run([*AUDIT, *(f"--requirement={lock}" for lock in locks)], capture_output=True, text=True)
    names = " and ".join(locks)
    if audit.returncode == 0:
        print(f"{names}: no known vulnerabilities")
        return 0
    if audit.stdout:  # the list of vulnerabilities; errors go to stderr only
        print(audit.stdout, end="")
        remedy = "upgrade the packages with `make lock UPGRADE=1` and build again"
        print(f"error: known vulnerabilities in {names}; {remedy}", file=sys.stderr)
        return 1
    if unreachable := UNREACHABLE.search(audit.stderr):
        print(f"not audited: no answer from the advisory service ({unreachable[1] or unreachable[2]})")
        return 0
    print(audit.stderr, end="", file=sys.stderr)
    print(f"error: pip-audit failed, so {names} could not be audited; its output is above", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
