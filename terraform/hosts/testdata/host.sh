#!/usr/bin/env bash
# Makes a test host of the namespaces that it is started in: the files of this
# machine, under a layer of its own that goes with the last process, and an SSH
# server as the first process. Usage: host.sh WORK SSHD_CONFIG.
set -euo pipefail
work=$1 sshd_config=$2
mount --make-rprivate /
mount -t tmpfs -o size=4g tmpfs "$work"
mkdir "$work/upper" "$work/layer" "$work/root"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/layer" overlay "$work/root"
cd "$work/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir run/machine run/sshd
cp "${sshd_config%/*}"/* run/sshd/
pivot_root . run/machine
umount -l /run/machine
cd /
# What an earlier use of this machine may have left.
rm -rf /etc/consul.d /etc/nomad.d /etc/lightcone /var/lib/consul /var/lib/nomad /var/lib/lightcone
useradd --create-home --shell /bin/bash --password '*' admin # not root, as on most machines
echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin
chmod 644 /run/sshd/authorized_keys # read as the one who logs in
ip link set lo up
exec /usr/sbin/sshd -D -e -f /run/sshd/sshd_config
