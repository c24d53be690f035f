package main

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// size is a flag for a number of bytes: 1048576, 1024KiB, 1MiB or 1Mi.
type size[T int | int64 | uint64] struct{ bytes *T }

var _ pflag.Value = size[int]{}

// sizeUnits are the binary units, which String uses, and other spellings. No
// suffix may stand in front of a longer one that ends in it.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

// String writes the number with the largest binary unit that divides it.
func (s size[T]) String() string {
	n := int64(*s.bytes)
	for _, unit := range []int{2, 1, 0} {
		if u := sizeUnits[unit]; n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// Type names the flag's kind in help texts.
func (s size[T]) Type() string { return "SIZE" }

// Set parses a number with an optional unit.
func (s size[T]) Set(v string) error {
	number, unit := v, int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(v, u.suffix); ok {
			number, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return errors.New("expected a size such as 1048576, 1024KiB or 1MiB")
	}
	*s.bytes = T(n * unit)
	return nil
}
