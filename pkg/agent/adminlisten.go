package agent

import (
	"container/list"
	"net"
	"sync"
)

// boundedListener bounds the connections that are open. One more ends the
// oldest instead of being refused: whoever holds connections open cannot shut
// the others out, who need one for a moment.
type boundedListener struct {
	net.Listener
	most int

	mu   sync.Mutex
	open list.List // of *boundedConn, the oldest first
}

// boundedConn is a connection of a boundedListener.
type boundedConn struct {
	net.Conn
	in *boundedListener
	at *list.Element
}

// Accept waits for the next connection.
func (l *boundedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &boundedConn{Conn: conn, in: l}
	var oldest *boundedConn
	l.mu.Lock()
	if l.open.Len() >= l.most {
		oldest = l.open.Front().Value.(*boundedConn)
	}
	c.at = l.open.PushBack(c)
	l.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
	return c, nil
}

// Close closes the connection and forgets it.
func (c *boundedConn) Close() error {
	c.in.mu.Lock()
	c.in.open.Remove(c.at) // once: an element knows whether it is in the list
	c.in.mu.Unlock()
	return c.Conn.Close()
}
