# Xen's toolstack, in its privileged domain.
PATH=/usr/lib/xen-4.20/bin:$PATH
mount -t xenfs xenfs /proc/xen
mkdir -p /run/xenstored /var/log/xen /var/lib/xen
xenstored --pid-file /run/xenstored.pid
xen-init-dom0 >/dev/null
xenconsoled --pid-file=/run/xenconsoled.pid
# Sixteen times a guest's: what serves all guests is not to wait for them.
xl sched-credit2 -d 0 -w 4096
