#!/bin/sh
# The lab's init: what its hypervisor needs, then /lab/command of the payload with its
# output on the port "output" and its exit code on the port "status", then power off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

mkdir -p /dev/pts /dev/shm /run/lock /run/xen /run/netns /lab
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
# QEMU and the guests' kernel: the root has no room for them.
mount -t tmpfs lab /lab
mount -t cgroup2 cgroup /sys/fs/cgroup
# Xen's hotplug scripts open /dev/fd/N to take their lock, and spin without it.
ln -s /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${number%:*} /dev/${number#*:}; done
hostname lab
ip link set lo up

. /run/lab/hypervisor

for port in /sys/class/virtio-ports/*; do
    case $(cat $port/name) in
    output) output=/dev/${port##*/} ;;
    status) status=/dev/${port##*/} ;;
    esac
done
if ! tar -x -C / -f /dev/vdb; then
    echo "lab: what is carried in cannot be unpacked"
    output=/dev/null status=/dev/null
elif [ -e /run/lab/terminal ]; then
    setsid sh -c 'exec /usr/bin/script -qec "sh /lab/command" /dev/null' <$output >$output 2>&1
else
    sh /lab/command </dev/null >$output 2>&1
fi
echo "exit $?" >$status
sync
# The port is empty only when QEMU has taken everything: closing does not wait.
echo o >/proc/sysrq-trigger
sleep 60
