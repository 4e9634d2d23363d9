#!/bin/sh
# boot.sh ROOT DIR NAME [CGROUP]: become PID 1 of lab host NAME, whose disk is DIR over
# ROOT. Runs in new mount, pid, uts and ipc namespaces and in the host's network
# namespace. Prints "up" when the host is complete; lives as long as its stdin.
# With CGROUP, which it must be in, PID 1 is systemd, and lives as long as its parent.
set -e
root=$1 dir=$2 name=$3 cgroup=$4

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
if [ -n "$cgroup" ]; then
    if [ -d "/sys/fs/cgroup/$cgroup" ]; then
        mount --bind "/sys/fs/cgroup/$cgroup" sys/fs/cgroup
    else
        mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
        for own in /sys/fs/cgroup/*/"$cgroup"; do
            hierarchy=$(basename "$(dirname "$own")")
            mkdir "sys/fs/cgroup/$hierarchy"
            mount --bind "$own" "sys/fs/cgroup/$hierarchy"
        done
    fi
    # Of its own, for systemd puts sockets there, and writes on the console.
    mount -t tmpfs -o mode=755 dev dev
    cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty dev
    cp -a /dev/null dev/console
    mkdir dev/pts
    mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
else
    if [ -d /sys/fs/cgroup ]; then mount --rbind /sys/fs/cgroup sys/fs/cgroup; fi
    mount --rbind /dev dev
fi
mount --bind "$dir/docker" var/lib/docker # overlay2 refuses to be on an overlay
mkdir -p run/docker/plugins run/lock run/netns

pivot_root . .old
mount -t proc proc /proc
umount -l /.old
# Shared, so that what dockerd mounts in /run/docker/netns appears in /outer/run too.
mount --make-rshared /
for part in run proc sys dev; do mount --rbind "/$part" "/outer/$part"; done
# It is a machine of its own, also to the programs that it runs from the machine's root.
if [ -f /outer/etc/machine-id ]; then
    echo "$name" | md5sum | cut -c1-32 >/run/machine-id
    mount --bind /run/machine-id /outer/etc/machine-id
fi
echo "$name" >/proc/sys/kernel/hostname
ip link set lo up

echo up
if [ -n "$cgroup" ]; then
    exec env container=lab setpriv --pdeathsig KILL /lib/systemd/systemd </dev/null >&2
fi
# tini reaps the shims. cat ends, and with it the host, when the test run has gone away.
exec tini -- cat >/dev/null
