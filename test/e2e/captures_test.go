package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// captureFiles are the captures that other people made and that are on this
// machine: in the module cache, in what Debian packages install, and in the
// directories that SHADOWTAP_CAPTURES lists. Nothing is fetched.
func captureFiles(t *testing.T) (files []string) {
	t.Helper()
	dirs := []string{"/usr/share/doc/python3-dpkt", "/usr/share/gocode/src/github.com/google/gopacket"}
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/gopacket").Output()
	must(t, err)
	dirs = append(dirs, strings.TrimSpace(string(module)))
	dirs = append(dirs, filepath.SplitList(os.Getenv("SHADOWTAP_CAPTURES"))...)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && slices.Contains([]string{".pcap", ".pcapng", ".cap"}, filepath.Ext(path)) {
				files = append(files, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return files
}

// serverPorts are the ports that segments with payload go to, as far as the
// file can be read.
func serverPorts(t *testing.T, name string) []uint16 {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	ports := map[uint16]bool{80: true}
	var source interface {
		gopacket.PacketDataSource
		LinkType() layers.LinkType
	}
	if source, err = pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions); err != nil {
		_, err := f.Seek(0, 0)
		must(t, err)
		if source, err = pcapgo.NewReader(f); err != nil {
			return []uint16{80}
		}
	}
	for {
		data, _, err := source.ReadPacketData()
		if err != nil {
			break
		}
		packet := gopacket.NewPacket(data, source.LinkType(), gopacket.Default)
		if tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && len(tcp.Payload) > 0 && len(ports) < 20 {
			ports[uint16(tcp.DstPort)] = true
		}
	}
	return slices.Sorted(maps.Keys(ports))
}

// TestPublicCaptures: whatever others have captured is read to its end, or
// refused with a reason, and the account is closed.
func TestPublicCaptures(t *testing.T) {
	t.Parallel()
	files := captureFiles(t)
	if len(files) == 0 {
		t.Fatal("not even the module cache has captures")
	}
	requests, refused := uint64(0), 0
	for _, name := range files {
		for _, port := range serverPorts(t, name) {
			path := filepath.Join(t.TempDir(), "account.json")
			cmd := exec.Command(program, "run", "--port", strconv.Itoa(int(port)), "--to", "http://192.0.2.1", "--pcap", name,
				"--dry-run", "--admin", "", "--account", path)
			var out, log bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &log
			must(t, cmd.Start())
			timeout := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait()
			timeout.Stop()
			switch code := cmd.ProcessState.ExitCode(); {
			case code == 2 && strings.HasPrefix(lastLine(log.String()), "shadowtap: "+name):
				refused++
				t.Logf("%s: refused: %s", name, lastLine(log.String()))
				continue
			case code != 0 || strings.Contains(log.String(), "panic"):
				t.Errorf("%s, port %d: exit code %d\n%s", name, port, code, log.String())
				continue
			}
			acc := readAccount(t, path)
			if err := acc.balanced(); err != nil || acc.Requests.Pending != 0 || acc.Shadow.Sent != 0 {
				t.Errorf("%s, port %d: %v: %+v", name, port, err, acc)
			}
			if p := acc.Packets; p.Seen != p.Copied+sum(p.Skipped)+sum(p.Lost) {
				t.Errorf("%s, port %d: packets %+v", name, port, p)
			}
			if n := uint64(bytes.Count(out.Bytes(), []byte("\n"))); n != acc.Requests.Mirrored {
				t.Errorf("%s, port %d: %d requests printed, %d mirrored", name, port, n, acc.Requests.Mirrored)
			}
			if r := acc.Requests; r.Seen > 0 {
				t.Logf("%s, port %d: %d requests, %d mirrored, dropped %v", name, port, r.Seen, r.Mirrored, r.Dropped)
			}
			requests += acc.Requests.Seen
		}
	}
	t.Logf("%d files, %d of them refused for a port, %d requests", len(files), refused, requests)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
