#!/bin/sh
# The lab's init: what Xen's toolstack needs, then /lab/command of the payload with its
# output on the port "output" and its exit code on the port "status", then power off.
export PATH=/usr/lib/xen-4.20/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

mkdir -p /dev/pts /dev/shm /run/lock /run/xen /run/netns
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
# Xen's hotplug scripts open /dev/fd/N to take their lock, and spin without it.
ln -s /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${number%:*} /dev/${number#*:}; done
hostname xen-lab
ip link set lo up

mount -t xenfs xenfs /proc/xen
mkdir -p /run/xenstored /var/log/xen /var/lib/xen
xenstored --pid-file /run/xenstored.pid
xen-init-dom0 >/dev/null
xenconsoled --pid-file=/run/xenconsoled.pid
# Sixteen times a guest's: what serves all guests is not to wait for them.
xl sched-credit2 -d 0 -w 4096

for port in /sys/class/virtio-ports/*; do
    case $(cat $port/name) in
    output) output=/dev/${port##*/} ;;
    status) status=/dev/${port##*/} ;;
    esac
done
tar -x -C / -f /dev/vdb
if [ -e /run/lab/terminal ]; then
    setsid sh -c 'exec /usr/bin/script -qec "sh /lab/command" /dev/null' <$output >$output 2>&1
else
    sh /lab/command </dev/null >$output 2>&1
fi
echo "exit $?" >$status
sync
# The port is empty only when QEMU has taken everything: closing does not wait.
echo o >/proc/sysrq-trigger
sleep 60
