// Package reassembly turns the TCP segments of one direction of a connection
// into its byte stream: in order, each byte once, what is missing reported as
// a gap, and every bound on memory and time enforced.
//
// # What is believed
//
// The assembler watches from beside the path, so it sees segments the
// receiver may refuse and misses segments the receiver got. It follows these
// rules:
//
//   - Sequence numbers are compared by serial-number arithmetic (RFC 9293
//     section 3.4, RFC 1982), always relative to the next byte expected, so a
//     connection may carry any number of bytes.
//   - Of several copies of a byte the first to arrive is delivered, and two
//     copies that disagree condemn the new segment and every waiting run of
//     bytes it overlaps, and what lies between that and what was condemned
//     before: all of it becomes a Gap. RFC 9293 section 3.10.7.4
//     leaves open which copy a receiver keeps, and receivers differ (Novak
//     and Sturges, "Target-Based TCP Stream Reassembly", 2007). Linux trims
//     what it has queued in order for the application, but among segments
//     that wait out of order it prefers the one that begins first, and a new
//     one that covers an old one (tcp_data_queue_ofo, tcp_ofo_queue). Besides,
//     a segment with a bad checksum or an old timestamp reaches the tap and
//     not the application. So no choice is safe, and nothing that might
//     differ from what production read is delivered. A disagreement can only
//     be noticed while the first copy waits behind a hole; bytes already
//     delivered are not kept for comparison.
//   - A segment more than 16 MiB ahead of the stream, or more than 1 GiB (the
//     largest window of RFC 7323 section 2.3) behind it, is ignored and
//     counted. Two such segments in a row, the second beginning where the
//     first ended, prove that the stream went on elsewhere (the tap lost an
//     unknown amount without noticing): a Gap of unknown length, and the
//     second is delivered. FlagLost makes the first one enough.
//   - Less than 16 MiB ahead is out of order: it waits for the hole in front
//     of it to fill. A forged segment there costs an idle connection at most
//     those 16 MiB; on a busy one the genuine bytes arrive first and either
//     agree or condemn it.
//   - RST closes a stream when its sequence number is exactly the next one
//     (RFC 5961 section 3.2). Further ahead it closes when the stream gets
//     there; when the hole in front of it is given up, or a later byte comes,
//     it is forgotten, since the receiver would have asked its peer.
//   - A closed flow takes nothing that comes late. But new bytes behind a RST,
//     or where a FIN had been believed across a hole, show that it was
//     forged: the flow is picked up again as if it had been open before.
//   - SYN with another initial sequence number replaces a flow that is on
//     probation, ignored or closed. On an established flow it only announces a
//     new connection: bytes at the announced place close the old stream
//     (CloseReused), also bytes shortly behind it unless they are within 16
//     MiB of the old place, while data at the old place proves the SYN forged.
//     The receiver would answer such a SYN with a challenge (RFC 5961
//     section 4).
//   - Segments with neither ACK, SYN nor RST and segments with SYN and FIN are
//     ignored and counted, as Linux does (RFC 9293 section 3.10.7.4).
//   - Where a segment carries urgent data (RFC 6093) the receiver takes one
//     byte out of the stream, or not, and which one it is depends on when the
//     application reads. So the stream goes on behind that segment, after a Gap
//     of unknown length: behind it nobody knows which byte is which.
//   - A connection without a known SYN begins at its first segment with more
//     than one byte of payload; one byte may be a keep-alive probe. Nothing
//     shows that such a connection exists: a caller that must not replay what
//     was injected without a handshake refuses midstream flows in NewStream,
//     at the latest when it has been running for longer than connections last.
//
// # Bounds
//
// The number of flows is bounded, including those that are remembered only to
// be ignored or to swallow retransmissions after their end. A source that has
// as many flows as there are free places gives up one of its own for each new
// one, so that one client cannot push out the flows of others, and k of them
// leave 1/(k+1) of the table free; 64 sources can fill it. When the table is
// full the oldest flow on probation (not followed up after its first segment,
// as in a SYN flood) goes first while those hold more than a quarter of the
// table. The oldest closed flow comes next; else the least recently used flow
// goes, whether bytes wait in it or not: they are delivered across their
// holes. Within a source the same order holds. Every choice is O(1). A flow met
// in the middle after that is believed less, see Assembler.Evicted.
//
// Out-of-order bytes are bounded per flow, in total, and by an optional
// budget shared with others. What counts is memory (buffer capacity and
// bookkeeping), not payload: a million one-byte segments cost no more than
// the bound. A flow also has at most 512 runs of out-of-order bytes, which
// bounds the work per segment. At any of these bounds the flow that asks for
// more gives up its oldest hole: a Gap, then the bytes behind it. No byte
// that arrived is dropped for lack of memory.
//
// # Why not gopacket
//
// Read and measured on github.com/google/gopacket v1.1.19:
//
//   - gopacket/reassembly adds 2^32-1 instead of 2^32 when it compares
//     sequence numbers across the wrap. A retransmission that overlaps the
//     wrap delivers one byte twice and loses another, with no gap reported.
//   - gopacket/tcpassembly does not have that fault. It reports the exact
//     length of a gap once it has seen the SYN. Of a connection whose SYN it
//     has not seen, it delivers nothing until the connection is flushed or
//     reaches its page limit, and then reports -1.
//   - tcpassembly bounds pages (1900 bytes and about 100 of bookkeeping, for
//     a one-byte segment too) only when asked, inserts by walking a list from
//     its end, lets the copy with the lower first sequence number win, does
//     not notice conflicts, believes data at any distance and RST at any
//     sequence number not ahead of the stream, keeps the old state when a new
//     SYN arrives on a 4-tuple, and opens a new connection for a
//     retransmission after FIN.
//   - Both key connections by two gopacket.Flow (112 bytes to hash), take two
//     locks per segment, and define flags of the same name on
//     flag.CommandLine, so a program that imports both panics at start.
//
// Here tcpassembly is a test oracle, and the benchmark to beat.
package reassembly
