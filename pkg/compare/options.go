package compare

// Options say what is compared. The zero value is what docs/COMPARE.md calls
// the default.
type Options struct {
	// IgnoreHeaders are names of header and trailer fields that are not
	// compared, beside those that docs/COMPARE.md lists. A "*" at the end stands
	// for any end.
	IgnoreHeaders []string
	// CompareHeaders are names or patterns like those, of fields that are not
	// compared by default and now are, unless IgnoreHeaders names them.
	CompareHeaders []string
	// IgnorePaths are places in JSON documents that are not compared, with all
	// that is below them: "$.meta.took", "$.items[].id", "$.*.etag", "$..now".
	IgnorePaths []string
	// IgnoreValues are RE2 expressions. Where both values match one of them as
	// a whole, they are taken for equal.
	IgnoreValues []string
	// ShowValues keeps values in examples as they are. They are redacted
	// otherwise: they may be secrets of people.
	ShowValues bool
	// MaxInflated bounds, in bytes, what is decoded of compressed content on
	// either side; 0 is 1 MiB.
	MaxInflated int
}
