package rules

// DecodeObject decodes one object as an API server sends it, in JSON. It means
// the same as in a file, and what is wrong with it reads the same, without the
// line. The Snapshot holds the object, or nothing if it could not be
// identified, and refers to nothing of data.
func DecodeObject(data []byte) (*Snapshot, Problems) {
	s, problems := Decode("", data)
	for i := range problems {
		problems[i].Position = Position{}
	}
	s.metas(func(m *Meta) {
		// The text is one line, and its syntax tree is many times as large
		// as the object.
		m.Position, m.node = Position{}, nil
	})
	return s, problems
}
