#!/bin/busybox sh
# First process of the nested computer's system: modules, root, then lab/init in it.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /lib/*.ko; do $b insmod $module; done
$b mount -t ext4 -o noatime /dev/vda /root
$b mount -t tmpfs run /root/run
$b mkdir /root/run/lab
$b cp /lab/* /root/run/lab/
for tree in proc sys dev; do $b mount --move /$tree /root/$tree; done
exec $b switch_root /root /run/lab/init
