#!/bin/sh
# Installs the Debian packages given, as root, and keeps etcd's service from being started: a
# development machine wants the programs, not a server on 2379 and 2380.
#
# Debian starts a service when its package is installed unless /usr/sbin/policy-rc.d says no. If
# there is none, or it would say yes, one of ours stands in for as long as apt-get runs.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
DEBIAN_FRONTEND=noninteractive
export PATH DEBIAN_FRONTEND

policy=/usr/sbin/policy-rc.d
former=$policy.before-quorate
mark='Stands in while quorate installs etcd'

say() { echo "prepare: $*"; }
installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Puts back what was there; also what an earlier run left when it was killed.
restore() {
    grep -qs "$mark" "$policy" || return 0
    if [ -e "$former" ] || [ -L "$former" ]; then mv -f "$former" "$policy"; else rm -f "$policy"; fi
}

stand_in() {
    if [ -x "$policy" ]; then
        rc=0
        "$policy" etcd start >/dev/null 2>&1 || rc=$?
        [ "$rc" != 101 ] || return 0 # it says no already
    fi
    if [ -e "$policy" ] || [ -L "$policy" ]; then cp -a "$policy" "$former"; fi
    cat >"$policy.quorate" <<SCRIPT
#!/bin/sh
# $mark; removed when that is done.
for word; do case \$word in etcd | etcd.service) exit 101 ;; esac; done
if [ -x $former ]; then exec $former "\$@"; fi
exit 0
SCRIPT
    chmod 755 "$policy.quorate"
    mv -f "$policy.quorate" "$policy"
}

# Installed by us, so nobody relies on it: it shall not start at the next boot either.
disable_service() {
    if command -v systemctl >/dev/null 2>&1; then
        systemctl disable etcd.service >/dev/null 2>&1 || return 0
    elif [ -e /etc/init.d/etcd ]; then
        update-rc.d etcd disable >/dev/null 2>&1 || return 0
    fi
    say "etcd's own service is neither started nor enabled"
}

log=$(mktemp)
etcd_is_new=
cleanup() {
    restore
    rm -f "$log" "$policy.quorate"
    if [ -n "$etcd_is_new" ] && installed etcd-server; then disable_service; fi
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

restore
case " $* " in
*" etcd-server "*)
    installed etcd-server || etcd_is_new=yes
    stand_in
    ;;
esac

say "installing from Debian: $*"
apt-get -q update >"$log" 2>&1 </dev/null || say "apt-get update failed; going on with the lists there are"
apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@" >>"$log" 2>&1 </dev/null || {
    cat "$log" >&2
    echo "prepare: error: apt-get could not install: $*" >&2
    exit 1
}
