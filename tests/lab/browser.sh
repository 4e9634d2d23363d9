#!/bin/sh
# In mount and pid namespaces of its own: give a root what a browser needs, and run it.
#   browser.sh ROOT FOLDER WORDS...     FOLDER is /tmp/out there
set -eu
root=$1 folder=$2
shift 2
mount -t tmpfs none "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs none "$root/run"
mount --rbind /dev "$root/dev"
mkdir "$root/tmp/out"
mount --bind "$folder" "$root/tmp/out"
exec chroot "$root" /usr/lib/chromium/chromium-headless-shell "$@"
