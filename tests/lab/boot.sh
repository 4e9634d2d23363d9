#!/bin/sh
# boot.sh ROOT DIR NAME: become PID 1 of lab host NAME, whose disk is DIR over ROOT.
# Runs in new mount, pid, uts and ipc namespaces and in the host's network
# namespace. Prints "up" when the host is complete; lives as long as its stdin.
set -e
root=$1 dir=$2 name=$3

mkdir -p "$dir/upper" "$dir/work" "$dir/root" "$dir/outer" "$dir/docker"
# The machine is copied before the host's root is mounted, so that it is not in the copy.
mount --rbind / "$dir/outer"
mount -t overlay "$name" -o "lowerdir=$root,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cd "$dir/root"
mkdir -p proc sys dev run tmp outer var/lib/docker .old
mount --move "$dir/outer" outer

mount -t tmpfs -o mode=755 run run
mount -t tmpfs tmp tmp
mount -t sysfs sys sys # a new one: /sys/class/net is that of the network namespace
if [ -d /sys/fs/cgroup ]; then mount --rbind /sys/fs/cgroup sys/fs/cgroup; fi
mount --rbind /dev dev
mount --bind "$dir/docker" var/lib/docker # overlay2 refuses to be on an overlay
mkdir -p run/docker/plugins run/lock run/netns

pivot_root . .old
mount -t proc proc /proc
umount -l /.old
# Shared, so that what dockerd mounts in /run/docker/netns appears in /outer/run too.
mount --make-rshared /
for part in run proc sys dev; do mount --rbind "/$part" "/outer/$part"; done
echo "$name" >/proc/sys/kernel/hostname
ip link set lo up

echo up
# tini reaps the shims. cat ends, and with it the host, when the test run has gone away.
exec tini -- cat >/dev/null
