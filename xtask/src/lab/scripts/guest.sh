#!/bin/busybox sh
# A guest's first process: drivers, then the partition that root=PARTLABEL= names.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /lib/*.ko; do $b insmod $module; done
# On QEMU it was the serial port until now.
exec </dev/console >/dev/console 2>&1
label= init=/sbin/init
for word in $($b cat /proc/cmdline); do
    case $word in
    root=PARTLABEL=*) label=${word#root=PARTLABEL=} ;;
    init=*) init=${word#init=} ;;
    esac
done
if [ -z "$label" ]; then
    $b --install -s /bin
    echo "guest is ready"
    exec /bin/sh
fi
# The disk appears when its back end is connected.
until event=$($b grep -lx "PARTNAME=$label" /sys/class/block/*/uevent 2>/dev/null); do
    $b usleep 20000
done
device=${event%/uevent}
$b mount -o rw /dev/${device##*/} /root
for tree in dev proc sys; do $b umount -l /$tree; done
exec $b switch_root /root $init
