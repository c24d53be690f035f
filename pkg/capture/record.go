package capture

import (
	"errors"
	"unsafe"
)

var errRecord = errors.New("ring record does not match the contract with the kernel program")

const recordHead = int(unsafe.Sizeof(tapRecord{}))

// decode fills s from a record as it lies in the ring, which must be 8-byte
// aligned; s.Payload points into it. offset is added to the kernel's time to
// give Unix time.
func (s *Segment) decode(record []byte, offset int64) error {
	if len(record) < recordHead {
		return errRecord
	}
	r := (*tapRecord)(unsafe.Pointer(unsafe.SliceData(record)))
	if int(r.Len) != len(record)-recordHead {
		return errRecord
	}
	s.Flow = *(*Flow)(unsafe.Pointer(&r.Flow)) // the same bytes, see TestFlowLayout
	s.Seq = r.Seq
	s.Ack = r.Ack
	s.Flags = Flags(r.Flags)
	s.Continues = r.Offset != 0
	s.Ifindex = r.Ifindex
	s.Time = int64(r.Time) + offset
	s.Payload = record[recordHead:]
	return nil
}
