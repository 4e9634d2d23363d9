#!/bin/sh
# PID 1 of a user-mode kernel: a machine like this one, whose changes are not kept.
# Everything is read from this machine's own root, and written to a tmpfs over it.
# From the kernel's command line: $kernel, where it and its modules are; $exchange,
# a directory of this machine with the command, and for what comes of it; $disks,
# where the disks of lab hosts are. When this script fails, the kernel panics.
set -e
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
# Twice: modules can be found by name only once they are in /lib/modules.
"$kernel/busybox" insmod "$kernel/modules/$(uname -r)/kernel/fs/overlayfs/overlay.ko"
mount -t overlay root -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root

cd /mnt/root
pivot_root . mnt
mount -t proc proc /proc
umount -l /mnt
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 run /run
mkdir /run/lock /run/netns
mkdir -p /lib/modules "$exchange" "$disks"
mount -t hostfs none -o "$kernel/modules" /lib/modules
mount -t hostfs none -o "$exchange" "$exchange"
mount -t tmpfs disks "$disks" # an overlay cannot have its upper layer on an overlay

for module in macvlan ipvlan dummy 8021q veth bridge tun vxlan; do
    "$kernel/busybox" modprobe "$module"
done
# Without the devices that they else make by themselves.
"$kernel/busybox" modprobe bonding max_bonds=0
"$kernel/busybox" modprobe ifb numifbs=0
ip link set lo up
echo uml >/proc/sys/kernel/hostname
# What a command that hangs has said so far is to be seen outside.
echo 50 | tee /proc/sys/vm/dirty_writeback_centisecs >/proc/sys/vm/dirty_expire_centisecs

code=0
sh "$exchange/command" >"$exchange/output" 2>&1 </dev/null || code=$?
echo "$code" >"$exchange/code"
"$kernel/busybox" poweroff -f
