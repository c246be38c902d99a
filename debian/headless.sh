#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes a root of Debian 12 with the package small enough for an image: commands and flowgraphs without windows stay whole.
# Debian's gnuradio brings Qt and a compiler for Mesa's drawings, python3-scipy another for Pythran, which nothing here loads.
# dpkg knows then that dependencies are missing: apt installs nothing more there before `apt --fix-broken install`.
set -eu
[ "${1:-}" = this-root ] || {
    echo "headless.sh: it purges compilers, Qt and GTK from the system that it runs in, an image's; if that is meant: headless.sh this-root" >&2
    exit 2
}
compilers='-dev$|^(gcc|g\+\+|cpp)-[0-9]|^castxml$|^binutils|^lib(llvm|clang|z3|asan|tsan|lsan|ubsan|perl)|^perl-modules'
windows='^lib(qt[56]|gtk|gl1)|^python3-(pyqt|opengl|sympy)|^adwaita|^gnome-terminal|^xkb-data$'
documents='^libjs-|^unicode-data$'
dpkg-query --show --showformat '${Package}\n' | grep -Ee "$compilers|$windows|$documents" |
    xargs dpkg --purge --force-depends
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
