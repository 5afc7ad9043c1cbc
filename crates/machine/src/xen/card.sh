# Called by libxl with the card's name in `vif`. Written by gridgate, below values that it knows.
fail() {
    xenstore-write "$XENBUS_PATH/hotplug-error" "$1" "$XENBUS_PATH/hotplug-status" error
    exit 1
}
[ "$1" = online ] || exit 0
# Never the lowest address of the bridge, so that the bridge keeps its own.
ip link set dev "$vif" address fe:ff:ff:ff:ff:ff || fail "$vif is not there"
ip link set dev "$vif" netns "$namespace" name "$name" || fail "card $name cannot go to network $namespace"
ip -n "$namespace" link set dev "$name" master "$bridge" up || fail "there is no bridge $bridge in network $namespace"
xenstore-write "$XENBUS_PATH/hotplug-status" connected
