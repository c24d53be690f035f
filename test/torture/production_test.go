package torture

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/maphash"
	"io"
	"net"
)

func sum64(b []byte) uint64 { return maphash.Bytes(hashSeed, b) }

// serveProduction is v1: it answers each request with its id and the hash of
// the bytes it got.
func serveProduction(l net.Listener) *server {
	return serve(l, func(c net.Conn) {
		r := bufio.NewReaderSize(c, 256<<10)
		for {
			var h maphash.Hash
			h.SetSeed(hashSeed)
			id, body, pause := 0, 0, false
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				_, _ = h.Write(line)
				if len(line) == len("\r\n") {
					break
				}
				name, value, _ := bytes.Cut(line, []byte(":"))
				switch {
				case bytes.EqualFold(name, []byte(idField)):
					if _, err := fmt.Sscan(string(value), &id, &body); err != nil {
						return
					}
				case string(name) == "Expect":
					pause = true
				}
			}
			if pause {
				if _, err := io.WriteString(c, goOn); err != nil {
					return
				}
			}
			if _, err := io.CopyN(&h, r, int64(body)); err != nil {
				return
			}
			if _, err := fmt.Fprintf(c, done, id, h.Sum64()); err != nil {
				return
			}
		}
	})
}
