package compare

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
)

// WriteJSON writes r as encoding/json would, indented, but a route at a time:
// all of it at once takes several times the memory of the report.
func (r *Report) WriteJSON(w io.Writer) error {
	head := *r
	head.Routes = map[string]*Route{}
	text, err := json.MarshalIndent(&head, "", "  ")
	if err != nil {
		return err
	}
	text, last := bytes.CutSuffix(text, []byte("{}\n}"))
	if !last {
		return errors.New("the routes are not what a report ends with")
	}
	text = append(text, '{')
	for i, key := range slices.Sorted(maps.Keys(r.Routes)) {
		if i > 0 {
			text = append(text, ',')
		}
		name, err := json.Marshal(key)
		if err != nil {
			return err
		}
		route, err := json.MarshalIndent(r.Routes[key], "    ", "  ")
		if err != nil {
			return err
		}
		text = append(append(append(append(text, "\n    "...), name...), ": "...), route...)
		if _, err := w.Write(text); err != nil {
			return err
		}
		text = text[:0]
	}
	if len(r.Routes) > 0 {
		text = append(text, "\n  "...)
	}
	_, err = w.Write(append(text, "}\n}\n"...))
	return err
}
