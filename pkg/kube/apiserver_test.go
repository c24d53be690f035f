package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// apiServer is as much of an API server as clients that only watch can see:
// discovery, lists, watches from a resource version, selectors, metadata of
// objects instead of objects. The tests in test/kube use a real one.
type apiServer struct {
	*httptest.Server

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]map[string]any // by group and resource, then by namespace/name
	served   map[string][]string                  // versions of "resource.group"
	log      []event
	more     chan struct{} // closed when log grows, or the server goes down
	down     bool
	forbid   map[string]bool // resources
	requests map[string]int  // by what they ask, such as "watch pods"
}

type event struct {
	version  int
	resource string // "resource.group"
	kind     string
	object   map[string]any
}

func newAPIServer(t *testing.T) *apiServer {
	a := &apiServer{
		objects: map[string]map[string]map[string]any{}, served: map[string][]string{},
		more: make(chan struct{}), forbid: map[string]bool{}, requests: map[string]int{},
	}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.setDown(true) // ends the watches
		a.Server.CloseClientConnections()
		a.Server.Close()
	})
	return a
}

// serveRules defines all kinds of rules, in all versions that there are.
func (a *apiServer) serveRules() {
	for _, k := range followed() {
		a.define(k.definition(), k.versions...)
	}
}

// define serves a kind of rules; without a version it no longer does.
func (a *apiServer) define(name string, versions ...string) {
	a.mu.Lock()
	if len(versions) == 0 {
		delete(a.served, name)
	} else {
		a.served[name] = versions
	}
	a.mu.Unlock()
	definition := fmt.Sprintf("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: %s}, spec: {large: text}}", name)
	if len(versions) == 0 {
		a.remove(nil, definition)
	} else {
		a.put(nil, definition)
	}
}

// parse reads the documents of YAML.
func parse(t *testing.T, text string) (out []map[string]any) {
	docs := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc map[string]any
		if err := docs.Decode(&doc); err != nil {
			if err.Error() == "EOF" {
				return out
			}
			if t == nil {
				panic(err)
			}
			t.Fatal(err)
		}
		if doc != nil {
			out = append(out, doc)
		}
	}
}

func resourceOf(object map[string]any) string {
	group, _, grouped := strings.Cut(object["apiVersion"].(string), "/")
	if !grouped {
		group = ""
	}
	name := strings.ToLower(object["kind"].(string)) + "s"
	name = strings.NewReplacer("entrys", "entries", "classs", "classes").Replace(name)
	if group == "" {
		return name
	}
	return name + "." + group
}

func keyOf(object map[string]any) string {
	meta := object["metadata"].(map[string]any)
	ns, _ := meta["namespace"].(string)
	return ns + "/" + meta["name"].(string)
}

// clusterScoped reports whether objects of a resource have no namespace.
func clusterScoped(resource string) bool {
	return strings.HasPrefix(resource, "customresource") || strings.HasPrefix(resource, "gatewayclass") || resource == "namespaces"
}

// put creates objects or replaces them.
func (a *apiServer) put(t *testing.T, text string) {
	for _, object := range parse(t, text) {
		resource, key := resourceOf(object), keyOf(object)
		meta := object["metadata"].(map[string]any)
		if meta["namespace"] == nil && !clusterScoped(resource) {
			meta["namespace"], key = "default", "default"+key
		}
		a.mu.Lock()
		kind := "ADDED"
		if a.objects[resource] == nil {
			a.objects[resource] = map[string]map[string]any{}
		}
		old := a.objects[resource][key]
		if meta["uid"] == nil {
			meta["uid"] = fmt.Sprint("uid-", a.version)
			if old != nil {
				meta["uid"] = old["metadata"].(map[string]any)["uid"]
			}
		}
		if old != nil {
			kind = "MODIFIED"
		}
		a.objects[resource][key] = object
		a.note(resource, kind, object)
		a.mu.Unlock()
	}
}

// remove deletes objects; only their names are looked at.
func (a *apiServer) remove(t *testing.T, text string) {
	for _, object := range parse(t, text) {
		resource, key := resourceOf(object), keyOf(object)
		if strings.HasPrefix(key, "/") && !clusterScoped(resource) {
			key = "default" + key
		}
		a.mu.Lock()
		if old := a.objects[resource][key]; old != nil {
			delete(a.objects[resource], key)
			a.note(resource, "DELETED", old)
		}
		a.mu.Unlock()
	}
}

func (a *apiServer) note(resource, kind string, object map[string]any) {
	a.version++
	object["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(a.version)
	a.log = append(a.log, event{a.version, resource, kind, object})
	close(a.more)
	a.more = make(chan struct{})
}

// setDown lets the server fail every request, and end those under way.
func (a *apiServer) setDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
	close(a.more)
	a.more = make(chan struct{})
}

func (a *apiServer) count(what string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests[what]
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	down := a.down
	a.mu.Unlock()
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case down:
		a.fail(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
		return
	case path[0] == "apis" && len(path) <= 3:
		a.discovery(w, path[1:])
		return
	}
	group, version := "", path[1]
	path = path[2:]
	if r.URL.Path[:5] == "/apis" {
		group, version, path = "."+version, path[0], path[1:]
	}
	namespace := ""
	if path[0] == "namespaces" && len(path) > 1 {
		namespace, path = path[1], path[2:]
	}
	resource := path[0] + group
	verb := "list "
	if r.URL.Query().Get("watch") != "" {
		verb = "watch "
	}
	a.mu.Lock()
	versions, rule := a.served[resource], isRuleDefinition(resource)
	forbidden := a.forbid[resource]
	a.requests[verb+resource]++
	if verb == "list " && len(path) == 1 && r.URL.Query().Get("resourceVersion") != "0" {
		a.requests["list from etcd"]++
	}
	a.mu.Unlock()
	switch {
	case resource == "events.events.k8s.io":
		a.createEvent(w, r)
	case rule && !slices.Contains(versions, version):
		a.fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	case forbidden:
		a.fail(w, http.StatusForbidden, metav1.StatusReasonForbidden)
	case len(path) > 1:
		a.serveOne(w, r, resource, namespace+"/"+path[1])
	case r.URL.Query().Get("sendInitialEvents") != "":
		a.fail(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid) // as one that does not know it
	case !parses(r):
		a.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
	default:
		a.serve(w, r, verb, resource, namespace)
	}
}

// serveOne reads an object, or merges a patch into its status.
func (a *apiServer) serveOne(w http.ResponseWriter, r *http.Request, resource, key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.objects[resource][key]
	if old == nil {
		a.fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	object := old
	if r.Method == http.MethodPatch {
		a.requests["patch "+resource]++
		var patch struct {
			Metadata struct{ ResourceVersion string }
			Status   map[string]any
		}
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil || !strings.HasSuffix(r.URL.Path, "/status") {
			a.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
			return
		}
		meta := maps.Clone(old["metadata"].(map[string]any))
		if patch.Metadata.ResourceVersion != meta["resourceVersion"] {
			a.fail(w, http.StatusConflict, metav1.StatusReasonConflict)
			return
		}
		status := map[string]any{}
		if before, ok := old["status"].(map[string]any); ok {
			maps.Copy(status, before)
		}
		maps.Copy(status, patch.Status)
		object = maps.Clone(old)
		object["metadata"], object["status"] = meta, status
		a.objects[resource][key] = object
		a.note(resource, "MODIFIED", object)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}

func (a *apiServer) fail(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   "Failure", Code: int32(code), Reason: reason, Message: string(reason),
	})
}

func (a *apiServer) discovery(w http.ResponseWriter, path []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests["discovery"]++
	byVersion := map[string][]metav1.APIResource{}
	for name, versions := range a.served {
		resource, group, _ := strings.Cut(name, ".")
		for _, v := range versions {
			if group == path[0] {
				byVersion[v] = append(byVersion[v], metav1.APIResource{Name: resource})
			}
		}
	}
	if len(byVersion) == 0 || len(path) > 1 && byVersion[path[1]] == nil {
		a.fail(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if len(path) > 1 {
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{
			TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
			GroupVersion: strings.Join(path, "/"), APIResources: byVersion[path[1]],
		})
		return
	}
	out := metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: path[0]}
	for v := range byVersion {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: path[0] + "/" + v, Version: v})
	}
	_ = json.NewEncoder(w).Encode(out)
}

// parses reports whether the selectors of a request can be read.
func parses(r *http.Request) bool {
	_, byLabel := labels.Parse(r.URL.Query().Get("labelSelector"))
	_, byField := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	return byLabel == nil && byField == nil
}

// selected reports whether a request asks for an object.
func selected(r *http.Request, namespace string, object map[string]any) bool {
	text := func(section, field string) string {
		m, _ := object[section].(map[string]any)
		s, _ := m[field].(string)
		return s
	}
	if namespace != "" && namespace != text("metadata", "namespace") {
		return false
	}
	byLabel, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		return false
	}
	byField, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		return false
	}
	set := labels.Set{}
	own, _ := object["metadata"].(map[string]any)["labels"].(map[string]any)
	for k, v := range own {
		set[k] = fmt.Sprint(v)
	}
	return byLabel.Matches(set) &&
		byField.Matches(fields.Set{"spec.nodeName": text("spec", "nodeName"), "status.phase": text("status", "phase")})
}

// form is an object as the client wants to have it.
func form(r *http.Request, object map[string]any) map[string]any {
	if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") {
		return object
	}
	return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]}
}

func (a *apiServer) serve(w http.ResponseWriter, r *http.Request, verb, resource, namespace string) {
	w.Header().Set("Content-Type", "application/json")
	if verb == "watch " {
		a.watch(w, r, resource, namespace)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []any{}
	for _, o := range a.objects[resource] {
		if selected(r, namespace, o) {
			items = append(items, form(r, o))
		}
	}
	list := map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)}, "items": items, "apiVersion": "v1", "kind": "List"}
	switch {
	case strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata"):
		list["apiVersion"], list["kind"] = "meta.k8s.io/v1", "PartialObjectMetadataList"
	case resource == "services":
		list["kind"] = "ServiceList"
	case resource == "pods":
		list["kind"] = "PodList"
	case resource == "namespaces":
		list["kind"] = "NamespaceList"
	case strings.HasPrefix(resource, "endpointslices"):
		list["apiVersion"], list["kind"] = "discovery.k8s.io/v1", "EndpointSliceList"
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, resource, namespace string) {
	after, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		a.mu.Lock()
		var send [][]byte
		for _, e := range a.log {
			if e.version > after && e.resource == resource && selected(r, namespace, e.object) {
				line, _ := json.Marshal(map[string]any{"type": e.kind, "object": form(r, e.object)})
				send = append(send, line)
			}
		}
		after = a.version
		down, more := a.down, a.more
		a.mu.Unlock()
		for _, line := range send {
			if _, err := w.Write(append(line, '\n')); err != nil {
				return
			}
		}
		w.(http.Flusher).Flush()
		if down {
			return
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

// createEvent creates an Event, unless there is one of the name.
func (a *apiServer) createEvent(w http.ResponseWriter, r *http.Request) {
	var object map[string]any
	if err := json.NewDecoder(r.Body).Decode(&object); err != nil || r.Method != http.MethodPost {
		a.fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	const resource = "events.events.k8s.io"
	if a.objects[resource] == nil {
		a.objects[resource] = map[string]map[string]any{}
	}
	if a.objects[resource][keyOf(object)] != nil {
		a.fail(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
		return
	}
	a.objects[resource][keyOf(object)] = object
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}
