package rpc

import (
	"sync"

	"github.com/sluice-hpc/sluice/core/view"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of all other messages
	"google.golang.org/grpc/mem"
)

// frame is a message that is encoded already.
type frame struct{ buf mem.Buffer }

// codec is protobuf, but lets frames pass as they are.
type codec struct{}

var plain = encoding.GetCodecV2("proto")

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(frame); ok {
		return mem.BufferSlice{f.buf}, nil
	}
	return plain.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error { return plain.Unmarshal(data, v) }

// Name implements encoding.CodecV2.
func (codec) Name() string { return "proto" }

// frames are the buffers of listings, used again once the transport wrote them.
type framePool struct{ pool sync.Pool }

const (
	frameCap = view.FrameSize + 16<<10
	keepCap  = 4 * frameCap // a buffer that grew beyond this is left to the collector
)

var frames = &framePool{sync.Pool{New: func() any {
	b := make([]byte, 0, frameCap)
	return &b
}}}

// Get implements mem.BufferPool.
func (p *framePool) Get(n int) *[]byte {
	if n > frameCap {
		b := make([]byte, n)
		return &b
	}
	b := p.pool.Get().(*[]byte)
	*b = (*b)[:n]
	return b
}

// Put implements mem.BufferPool.
func (p *framePool) Put(b *[]byte) {
	if c := cap(*b); c >= frameCap && c <= keepCap {
		*b = (*b)[:0]
		p.pool.Put(b)
	}
}
