package capture

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/shadowtap/shadowtap/pkg/capture/attach"
)

// instanceLoader brings the programs of instances into the kernel. Verifying
// the tap takes the kernel most of 100 ms, so all instances share one: an
// instance is an entry point of a dozen instructions, which knows its number.
type instanceLoader struct {
	spec *ebpf.CollectionSpec
	maps *tapMaps
	pods []*ebpf.Program // what the entry points lead to

	responses bool // entry points for egress are wanted
}

// newInstanceLoader loads what instances share. The maps belong to the caller.
func newInstanceLoader(spec *ebpf.CollectionSpec, maps *tapMaps, responses bool) (_ *instanceLoader, err error) {
	l := &instanceLoader{spec: spec, maps: maps, responses: responses}
	defer func() {
		if err != nil {
			_ = l.close()
		}
	}()
	var shared struct {
		Eth *ebpf.Program `ebpf:"pod_ingress_eth"`
		L3  *ebpf.Program `ebpf:"pod_ingress_l3"`
	}
	if err := spec.LoadAndAssign(&shared, l.options()); err != nil {
		return nil, loadError(err)
	}
	if err := l.put(tapPodProgramPOD_ETH, shared.Eth, shared.L3); err != nil {
		return nil, err
	}
	if !responses {
		return l, nil
	}
	var egress struct {
		Eth *ebpf.Program `ebpf:"pod_egress_eth"`
		L3  *ebpf.Program `ebpf:"pod_egress_l3"`
	}
	if err := spec.LoadAndAssign(&egress, l.options()); err != nil {
		return nil, loadError(err)
	}
	if err := l.put(tapPodProgramPOD_EGRESS_ETH, egress.Eth, egress.L3); err != nil {
		return nil, err
	}
	return l, nil
}

// put takes programs over, and has the entry points find them from an index on.
func (l *instanceLoader) put(index tapPodProgram, programs ...*ebpf.Program) error {
	l.pods = append(l.pods, programs...)
	for i, p := range programs {
		if err := l.maps.Pods.Put(index+tapPodProgram(i), p); err != nil {
			return fmt.Errorf("put %v in place: %w", p, err)
		}
	}
	return nil
}

func (l *instanceLoader) options() *ebpf.CollectionOptions {
	return &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		tapMapControl:       l.maps.Control,
		tapMapCounters:      l.maps.Counters,
		tapMapCurrent:       l.maps.Current,
		tapMapFlows:         l.maps.Flows,
		tapMapHellos:        l.maps.Hellos,
		tapMapPods:          l.maps.Pods,
		tapMapResponseFlows: l.maps.ResponseFlows,
		tapMapRings:         l.maps.Rings,
		tapMapScratch:       l.maps.Scratch,
		tapMapSides:         l.maps.Sides,
		tapMapTargets:       l.maps.Targets,
	}}
}

func (l *instanceLoader) close() error {
	var errs []error
	for _, p := range l.pods {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// instancePrograms are the entry points of one instance. Those for egress are
// nil without Config.Responses.
type instancePrograms struct {
	ingress struct {
		Eth *ebpf.Program `ebpf:"enter_ingress_eth"`
		L3  *ebpf.Program `ebpf:"enter_ingress_l3"`
	}
	egress struct {
		Eth *ebpf.Program `ebpf:"enter_egress_eth"`
		L3  *ebpf.Program `ebpf:"enter_egress_l3"`
	}
}

// load brings the entry points of another instance into the kernel.
func (l *instanceLoader) load(id uint32) (_ *instancePrograms, err error) {
	spec := l.spec.Copy()
	if err := spec.Variables[tapVarInstance].Set(id); err != nil {
		return nil, fmt.Errorf("set %s: %w", tapVarInstance, err)
	}
	p := new(instancePrograms)
	if err := spec.LoadAndAssign(&p.ingress, l.options()); err != nil {
		return nil, loadError(err)
	}
	if !l.responses {
		return p, nil
	}
	if err := spec.LoadAndAssign(&p.egress, l.options()); err != nil {
		return nil, errors.Join(loadError(err), p.close())
	}
	return p, nil
}

func (p *instancePrograms) attachable() attach.Programs {
	return attach.Programs{
		IngressEth: p.ingress.Eth, IngressL3: p.ingress.L3,
		EgressEth: p.egress.Eth, EgressL3: p.egress.L3,
	}
}

func (p *instancePrograms) close() error {
	// Closing a nil program is no error.
	return errors.Join(p.ingress.Eth.Close(), p.ingress.L3.Close(), p.egress.Eth.Close(), p.egress.L3.Close())
}
