#!/bin/sh
# A file becomes a block device of a domain. Called by libxl with the store's path of the
# back end in XENBUS_PATH: docs/misc/block-scripts.txt of Xen. Written by gridgate.
fail() {
    xenstore-write "$XENBUS_PATH/hotplug-error" "$1" "$XENBUS_PATH/hotplug-status" error
    exit 1
}
file=$(xenstore-read "$XENBUS_PATH/params") || fail "the disk has no file"
case $1 in
add)
    only=
    [ "$(xenstore-read "$XENBUS_PATH/mode")" = w ] || only=-r
    loop=$(losetup $only --find --show "$file" 2>&1) || fail "disk $file: $loop"
    xenstore-write "$XENBUS_PATH/node" "$loop" \
        "$XENBUS_PATH/physical-device" "$(stat -L -c %t:%T "$loop")" \
        "$XENBUS_PATH/hotplug-status" connected
    ;;
remove)
    # Gone by itself when the back end had it open, unless the domain was never made.
    loop=$(xenstore-read "$XENBUS_PATH/node" 2>/dev/null) || exit 0
    [ "$(cat "/sys/block/${loop#/dev/}/loop/backing_file" 2>/dev/null)" != "$file" ] || losetup -d "$loop"
    ;;
esac
