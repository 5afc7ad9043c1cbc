# KVM is a part of the kernel.
test -c /dev/kvm || echo "lab: the kernel has no KVM on this processor"
