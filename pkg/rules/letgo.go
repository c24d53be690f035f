package rules

import (
	"slices"

	networking "istio.io/api/networking/v1alpha3"
)

// letGo keeps a Program from holding the objects it was made from, and with
// them the documents they were read from, which take several times as much
// memory as the Program. It is the last step of Compile: problems need them.
func (c *compiler) letGo() {
	for _, vs := range c.virtualServices {
		meta := vs.src.Meta
		meta.node = nil
		vs.places = nil
		vs.src = &VirtualService{
			Meta: meta,
			Spec: &networking.VirtualService{ExportTo: slices.Clone(vs.src.Spec.ExportTo)},
		}
	}
}
