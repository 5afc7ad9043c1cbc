# Called by libxl with the card's name in `vif`. Written by gridgate, below values that it knows.
fail() {
    xenstore-write "$XENBUS_PATH/hotplug-error" "$1" "$XENBUS_PATH/hotplug-status" error
    exit 1
}
[ "$1" = online ] || exit 0
# Never the lowest address of the bridge, so that the bridge keeps its own.
ip link set dev "$vif" address fe:ff:ff:ff:ff:ff || fail "$vif is not there"
ip link set dev "$vif" netns "$namespace" name "$name" || fail "card $name cannot go to network $namespace"
card() { ip -n "$namespace" link set dev "$name" "$@"; }
# Before it is on the bridge: at no time can the guest send unfiltered.
if [ -n "$filter" ]; then
    said=$(tc -n "$namespace" qdisc add dev "$name" ingress 2>&1 &&
        tc -n "$namespace" filter add dev "$name" ingress protocol all prio 1 handle 1 bpf da bytecode "$filter" 2>&1) ||
        fail "the kernel takes no filter on card $name: $said"
fi
card master "$bridge" || fail "there is no bridge $bridge in network $namespace"
if [ -n "$filter" ]; then
    card type bridge_slave learning off flood off locked on &&
        bridge -n "$namespace" fdb replace "$mac" dev "$name" master static ||
        fail "the bridge does not keep card $name to its address"
fi
card up || fail "card $name does not come up"
xenstore-write "$XENBUS_PATH/hotplug-status" connected
