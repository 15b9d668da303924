package preface_test

import (
	"io"
	"net"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/wire/preface"
)

const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

func TestListener(t *testing.T) {
	for _, tt := range []struct {
		name    string
		said    string
		garbage int
	}{
		{"a client", hello + "frames", 0},
		{"a browser", "GET / HTTP/1.1\r\n\r\n", 1},
		{"half a client", hello[:9], 1},
		{"nobody", "", 0},
		{"a client that turns", hello[:9] + "x", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			garbage := 0
			checked := preface.Listener(l, func(net.Addr) { garbage++ })
			out, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(out, tt.said); err != nil {
				t.Fatal(err)
			}
			out.Close()
			in, err := checked.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			heard, err := io.ReadAll(in)
			if garbage != tt.garbage || (err != nil) != (tt.garbage > 0) {
				t.Errorf("%d times garbage, %v; want %d times", garbage, err, tt.garbage)
			}
			if tt.garbage == 0 && string(heard) != tt.said {
				t.Errorf("heard %q", heard)
			}
		})
	}
}
