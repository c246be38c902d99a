#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Seconds and bytes from an empty Debian to the first received slots, by the Debian package, which is built in one root and
# installed in another, where an example runs; what is left of that by debian/headless.sh, as in an image; and whether removing
# the package leaves a file behind. It needs root and debootstrap.
#
#   tests/first_slot.sh FOLDER [SUITE]
#
# FOLDER is made, and its roots are left there; SUITE: bookworm, Debian 12, by default; no other was tried.
set -euo pipefail
[ $# -ge 1 ] && [ "${1#-}" = "$1" ] || {
    sed -n 3,9p "$0" | cut -c3-
    exit 2
}
[ "$(id -u)" -eq 0 ] && command -v debootstrap >/dev/null || {
    echo "first_slot: it needs root, and debootstrap: apt install debootstrap" >&2
    exit 2
}
folder=$1 suite=${2:-bookworm}
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
mkdir "$folder"
folder=$(cd "$folder" && pwd)
mounted=()
trap '[ ${#mounted[@]} -eq 0 ] || umount "${mounted[@]}"' EXIT

empty() { # NAME: a root that has nothing but what Debian calls essential, and its package manager
    root=$folder/$1 total_s=0 total_fetched=0 total_held=0
    debootstrap --variant=minbase "$suite" "$root" >"$folder/$1.log" 2>&1 || {
        tail -n 3 "$folder/$1.log" >&2
        echo "first_slot: debootstrap of $suite failed; $folder/$1.log has it all" >&2
        exit 1
    }
    cp /etc/resolv.conf "$root/etc/"
    mount --bind /proc "$root/proc"
    mounted+=("$root/proc")
    git clone -q "$here" "$root/gr-deeprx"
}
held_mb() { du -sxm "$root" --exclude="$root/proc" | cut -f1; }
fetched_mb() { # by what apt says of itself
    awk '$1 == "Fetched" { gsub(",", "", $2); sum += $2 * ($3 == "MB" ? 1 : $3 == "kB" ? 1e-3 : 0) } END { printf "%d", sum }' "$1"
}
row() { printf '%-36s %5d s %6d MB fetched %6d MiB more on disk\n' "$@"; }
step() { # WHAT COMMANDS: in the root
    local log="$folder/$1.log" s=$SECONDS mib
    mib=$(held_mb)
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive \
        LC_ALL=C.UTF-8 bash -ec "$2" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        echo "first_slot: $1: failed; $log has it all" >&2
        exit 1
    }
    s=$((SECONDS - s)) mib=$(($(held_mb) - mib))
    row "$1" $s "$(fetched_mb "$log")" $mib
    total_s=$((total_s + s)) total_fetched=$((total_fetched + $(fetched_mb "$log"))) total_held=$((total_held + mib))
}

empty build
step "build dependencies" "apt-get update
    apt-get install -y --no-install-recommends build-essential
    apt-get build-dep -y --no-install-recommends /gr-deeprx"
step "building, without tests" "cd /gr-deeprx; DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -b -us -uc"
package=$(echo "$root"/gr-deeprx_*.deb)
empty package
cp "$package" "$root/gr-deeprx/"
step "installing" "apt-get update; apt-get install -y --no-install-recommends /gr-deeprx/gr-deeprx_*.deb"
receive="deeprx loopback --receiver deeprx-pusch --sinr 15 --slots 100 --out /tmp"
step "receiving 100 slots" "$receive"
row "from an empty $suite to received slots" $total_s $total_fetched $total_held
step "running an example" "cd /tmp; python3 /usr/share/gnuradio/examples/deeprx/loopback.py --slots 100"
step "leaving what has no window" "sh /gr-deeprx/debian/headless.sh this-root"
rm -r "$root/gr-deeprx"
step "receiving 100 slots again" "$receive"
echo "the root is now of $(held_mb) MiB"
step "removing the package" "dpkg --purge gr-deeprx
    left=\$(find / -xdev -iname '*deeprx*' -not -path '/proc/*' -not -path '/tmp/*')
    [ -z \"\$left\" ] || { echo \"it left behind: \$left\"; exit 1; }"
