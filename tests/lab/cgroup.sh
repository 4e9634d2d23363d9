#!/bin/sh
# cgroup.sh NAME COMMAND...: run a command in a cgroup NAME of its own in each hierarchy,
# which it takes for the root.
set -e
name=$1
shift

for hierarchy in $(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts); do
    mkdir -p "$hierarchy/$name"
    if [ -e "$hierarchy/cpuset.mems" ] && [ ! -e "$hierarchy/cgroup.controllers" ]; then
        # With v1, nothing may run in a cpuset that has been given nothing to run on.
        for what in cpus mems; do
            cat "$hierarchy/cpuset.$what" >"$hierarchy/$name/cpuset.$what"
        done
    fi
    echo $$ >"$hierarchy/$name/cgroup.procs"
done
exec unshare --cgroup "$@"
