package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a flag for a number of bytes: 1048576, 1024KiB, 1MiB or 1Mi.
type size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1},
}

// String writes the number with the largest unit that divides it.
func (s *size) String() string {
	for _, u := range []int{2, 1, 0} {
		if unit := sizeUnits[u]; *s != 0 && int64(*s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(*s)/unit.bytes, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Type names the flag's kind in help texts.
func (s *size) Type() string { return "SIZE" }

// Set parses a number with an optional unit.
func (s *size) Set(v string) error {
	number, unit := v, int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(v, u.suffix); ok {
			number, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("expected a size such as 1048576, 1024KiB or 1MiB")
	}
	*s = size(n * unit)
	return nil
}
