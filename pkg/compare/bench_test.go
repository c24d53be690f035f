package compare

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// twoKB is a JSON document of about 2 KB as an API answers it.
func twoKB(id, price int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"requestId":"%s","page":{"number":1,"size":12,"total":240},"items":[`, uuid(id))
	for i := range 12 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"sku":"SKU-%06d","name":"A product with a name","price":{"amount":%d.50,"currency":"EUR"},"tags":["new","sale"],"available":true}`, i, i, price+i)
	}
	b.WriteString(`]}`)
	return b.String()
}

func BenchmarkAdd(b *testing.B) {
	header := []string{"Content-Length: 2000", "Cache-Control: no-store", "Vary: Accept", "X-Content-Type-Options: nosniff", "Date: Mon, 23 Nov 2026 11:00:00 GMT"}
	v1 := answer(twoKB(1, 10), header...)
	for _, bb := range []struct {
		name string
		v2   *Answer
	}{
		{"same bytes", answer(twoKB(1, 10), header...)},
		{"another id", answer(twoKB(2, 10), header...)},
		{"another id and prices", answer(twoKB(2, 11), header...)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := newComparer(b, Options{})
			p := pair(v1, bb.v2)
			p.Request = 1
			b.ReportAllocs()
			b.SetBytes(int64(len(v1.Body)))
			for b.Loop() {
				c.Add(p)
			}
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	c := newComparer(t, Options{})
	const each = 50
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range each {
				p := pair(answer(twoKB(i, 10)), answer(twoKB(i+1, 10+i%2)))
				p.Request = 1
				c.Add(p)
				if i%10 == 0 {
					c.Report().Judge(DefaultLimits())
				}
			}
		})
	}
	wg.Wait()
	m := c.Report().Mirrors["m"]
	if m.Pairs != 4*each || m.Different != 4*each || !m.Balanced() {
		t.Errorf("%+v", m)
	}
}
