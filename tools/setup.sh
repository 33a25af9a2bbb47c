#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Installs those packages of tools/packages.txt that are missing, as root or by passwordless sudo. Where
# neither is to be had, prints the command that does it and exits with status 2. With nothing missing it does
# nothing, offline too.
set -eu

list=$(dirname "$0")/packages.txt
missing=
for package in $(sed 's/#.*//' "$list"); do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    echo "setup: these packages are missing; as root, please:" >&2
    echo "$install" >&2
    exit 2
fi

echo "setup: installing$missing" >&2
# env, because sudo hands on no variables.
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
# shellcheck disable=SC2086 # one word a package
$as_root env DEBIAN_FRONTEND=noninteractive $install
