#!/bin/sh
# Install Debian packages when their command is missing and this is root on Debian; else say what is missing and go on.
# Arguments: command:package pairs. Exit status 0 always: tests that need a missing command skip themselves visibly.
missing=""
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "==> installing Debian packages:$missing"
    # policy-rc.d keeps the packages' services from starting on their own.
    cleanup() { rm -f "$log"; [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d; }
    made=""
    log=$(mktemp)
    trap cleanup EXIT
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d && made=1
    fi
    (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing) >"$log" 2>&1 && exit 0
    tail -n 5 "$log" >&2
fi
echo "==> MISSING:$missing - install them (Debian: sudo apt-get install$missing); what needs them is skipped" >&2
exit 0
