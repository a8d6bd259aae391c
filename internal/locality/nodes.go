// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// settle is how long to collect changes of nodes before a new table is made of them.
const settle = 200 * time.Millisecond

// Cluster says which Kubernetes cluster to follow. The zero Cluster is the one that this process
// runs in.
type Cluster struct {
	Kubeconfig string // path of a kubeconfig file
	Context    string // of the file; empty: its current one
}

// String describes the cluster in a few words, for people.
func (c Cluster) String() string {
	switch {
	case c.Kubeconfig == "":
		return "in-cluster"
	case c.Context == "":
		return c.Kubeconfig
	}
	return c.Kubeconfig + " " + c.Context
}

// config returns how to reach the cluster's API server.
func (c Cluster) config() (config *rest.Config, err error) {
	if c.Kubeconfig == "" {
		config, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			err = errors.New(`this process runs in no Kubernetes cluster: want "kubernetes KUBECONFIG [CONTEXT]"`)
		}
	} else {
		config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: c.Kubeconfig},
			&clientcmd.ConfigOverrides{CurrentContext: c.Context},
		).ClientConfig()
	}
	if err != nil {
		return nil, err
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.UserAgent = "coredns-balance (locality)"
	return config, nil
}

// Check returns an error if a cluster cannot be followed, as Follow does. It asks nobody.
func (c Cluster) Check() error {
	if _, err := c.config(); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	return nil
}

// Logger is where a lost and a regained API server are reported.
type Logger interface {
	Infof(format string, values ...any)
	Warningf(format string, values ...any)
}

// Nodes follows the nodes of a cluster for one caller of Follow. Safe for concurrent use.
type Nodes struct {
	*informer
	changed func()
}

// informer follows the nodes of a cluster for all callers. Safe for concurrent use.
type informer struct {
	cluster Cluster
	log     Logger
	table   atomic.Pointer[Table]
	count   atomic.Int64
	lost    atomic.Pointer[string] // why the API server cannot be reached; nil if it can
	stop    func()

	callers []*Nodes      // guarded by informers
	dirty   chan struct{} // holds a token if nodes changed since the last table
}

// informers are those that run: one for each cluster in the process, whichever rules and servers
// share it, so that a reload of the Corefile does not list the nodes again.
var informers = struct {
	sync.Mutex
	running map[Cluster]*informer
}{running: make(map[Cluster]*informer)}

// Follow starts to follow the nodes of a cluster. It calls changed after every change of the table,
// from another goroutine. It returns an error if the configuration cannot be read; an API server
// that cannot be reached is no error and is tried again. The caller calls Leave at the end.
func Follow(c Cluster, log Logger, changed func()) (*Nodes, error) {
	informers.Lock()
	defer informers.Unlock()
	running := informers.running[c]
	if running == nil {
		config, err := c.config()
		if err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}
		running = start(c, client, log)
		informers.running[c] = running
	}
	n := &Nodes{running, changed}
	running.callers = append(slices.Clone(running.callers), n)
	return n, nil
}

// Leave ends Follow. It waits for the informer's end if no other caller follows the cluster. It
// must not be called by changed.
func (n *Nodes) Leave() {
	informers.Lock()
	n.callers = slices.DeleteFunc(slices.Clone(n.callers), func(other *Nodes) bool { return other == n })
	last := len(n.callers) == 0
	if last {
		delete(informers.running, n.cluster)
	}
	informers.Unlock()
	if last {
		n.stop()
	}
}

// Table returns what is known now. It knows nothing before Synced reports true.
func (i *informer) Table() Table {
	if table := i.table.Load(); table != nil {
		return *table
	}
	return Table{}
}

// Synced reports whether all nodes were read at least once.
func (i *informer) Synced() bool { return i.table.Load() != nil }

// Len returns the number of nodes that the table was made of.
func (i *informer) Len() int { return int(i.count.Load()) }

// Problem returns why the API server cannot be reached, the empty string if it can. The last table
// stays in force meanwhile.
func (i *informer) Problem() string {
	if lost := i.lost.Load(); lost != nil {
		return *lost
	}
	return ""
}

// start starts an informer on the nodes that a client reads.
func start(c Cluster, client kubernetes.Interface, log Logger) *informer {
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logr.Discard()))
	i := &informer{cluster: c, log: log, dirty: make(chan struct{}, 1)}
	quiet := logr.Discard() // what matters is reported by reached
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: i.listWatch(client), ObjectType: &core.Node{}, Handler: i, Transform: transform, Logger: &quiet,
	})
	var tasks sync.WaitGroup
	tasks.Go(func() { controller.RunWithContext(ctx) })
	tasks.Go(func() {
		select {
		case <-controller.HasSyncedChecker().Done():
			i.publish(ctx, store)
		case <-ctx.Done():
		}
	})
	i.stop = func() {
		cancel()
		tasks.Wait()
	}
	return i
}

// listWatch returns how the informer reads nodes: with the client, noting whether that works.
func (i *informer) listWatch(client kubernetes.Interface) cache.ListerWatcher {
	nodes := client.CoreV1().Nodes()
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options meta.ListOptions) (runtime.Object, error) {
			list, err := nodes.List(ctx, options)
			i.reached(ctx, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options meta.ListOptions) (watch.Interface, error) {
			w, err := nodes.Watch(ctx, options)
			i.reached(ctx, err)
			return w, err
		},
	}, client)
}

// reached notes and reports whether the API server answers. A change is reported once.
func (i *informer) reached(ctx context.Context, err error) {
	if err == nil {
		if i.lost.Swap(nil) != nil {
			i.log.Infof("locality kubernetes (%s): the API server answers again", i.cluster)
		}
		return
	}
	if ctx.Err() != nil {
		return // the informer stops
	}
	problem := err.Error()
	if i.lost.Swap(&problem) == nil {
		consequence := "the last known localities stay in force"
		if !i.Synced() {
			consequence = "no locality is known yet"
		}
		i.log.Warningf("locality kubernetes (%s): cannot read nodes: %s; %s", i.cluster, problem, consequence)
	}
}

// OnAdd implements cache.ResourceEventHandler.
func (i *informer) OnAdd(any, bool) { i.changedNow() }

// OnUpdate implements cache.ResourceEventHandler. A heartbeat changes nothing.
func (i *informer) OnUpdate(old, updated any) {
	before, known := old.(*node)
	now, ok := updated.(*node)
	if ok && (!known || !before.same(now)) {
		i.changedNow()
	}
}

// OnDelete implements cache.ResourceEventHandler.
func (i *informer) OnDelete(any) { i.changedNow() }

// changedNow asks for a new table.
func (i *informer) changedNow() {
	select {
	case i.dirty <- struct{}{}:
	default: // it is asked for already
	}
}

// publish makes a table of the nodes in the store, and a new one after every change, until ctx is
// done.
func (i *informer) publish(ctx context.Context, store cache.Store) {
	for {
		select {
		case <-i.dirty:
		default:
		}
		nodes := nodesIn(store)
		table := tableOf(nodes)
		i.count.Store(int64(len(nodes)))
		i.table.Store(&table)
		i.tell()
		select {
		case <-ctx.Done():
			return
		case <-i.dirty:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
	}
}

// nodesIn returns the nodes in an informer's store.
func nodesIn(store cache.Store) (nodes []*node) {
	for _, o := range store.List() {
		if n, ok := o.(*node); ok {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// tell calls all callers.
func (i *informer) tell() {
	informers.Lock()
	callers := i.callers
	informers.Unlock()
	for _, n := range callers {
		n.changed()
	}
}
