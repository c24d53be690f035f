package capture

// The object is the same on every architecture shadowtap supports: all of them
// are little endian, and nothing in it depends on the kernel's own types.
//
//go:generate go tool bpf2go -go-package capture -target bpfel -type wake -type record -type shard -type side -type tally tap ../../bpf/tap.bpf.c -- -O2 -mcpu=v3 -nostdinc -Wall -Wextra -Werror -ffile-prefix-map=../../bpf=bpf
