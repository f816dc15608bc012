package redistest

import (
	"cmp"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"hookbridge/app/expect"
)

// Cluster is a Redis Cluster of three primaries, with a replica each or none.
type Cluster struct{ Nodes, Replicas []*Server }

// URL is what a store is opened with.
func (c *Cluster) URL() string {
	hostPorts := c.Nodes[0].URL()
	for i, n := range append(c.Nodes[1:len(c.Nodes):len(c.Nodes)], c.Replicas...) {
		hostPorts += fmt.Sprintf("%caddr=%s", "?&"[min(i, 1)], n.Addr)
	}
	return hostPorts
}

// A node that is silent for the cluster's timeout is taken for dead. A cluster that is
// being formed has a short one, because nodes tell each other what is new within half of
// it. Afterwards it is longer than a busy machine keeps a node from its work.
const (
	formingTimeout = 2 * time.Second
	nodeTimeout    = 15 * time.Second
)

// StartCluster starts three primaries that share the slots.
func StartCluster(t testing.TB) *Cluster { return startCluster(t, false, nodeTimeout) }

// StartReplicatedCluster starts three such primaries with a replica each. They
// take a node for dead that is silent for timeout; 0 is longer than a test takes.
func StartReplicatedCluster(t testing.TB, timeout time.Duration) *Cluster {
	return startCluster(t, true, cmp.Or(timeout, nodeTimeout))
}

func startCluster(t testing.TB, replicated bool, timeout time.Duration) *Cluster {
	t.Helper()
	c := &Cluster{}
	node := func() *Server {
		return Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", millis(formingTimeout), "--cluster-config-file", "nodes.conf")
	}
	for range 3 {
		c.Nodes = append(c.Nodes, node())
	}
	if replicated {
		for range 3 {
			c.Replicas = append(c.Replicas, node())
		}
	}
	all := append(c.Nodes[:3:3], c.Replicas...)
	for i, n := range all {
		c.meet(t, n, all[:i])
	}
	for i, n := range c.Nodes {
		n.Do("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*5461), fmt.Sprint(min(16383, i*5461+5460)+i/2*(16383-2*5461-5460)))
	}
	eachNode := func(what, command, answer string, times int) {
		expect.Eventually(t, what, func() bool {
			for _, n := range all {
				if text, err := n.Try("CLUSTER", command); err != nil || strings.Count(text, answer) != times {
					return false
				}
			}
			return true
		})
	}
	eachNode("the nodes to know each other", "INFO", fmt.Sprintf("cluster_known_nodes:%d\r", len(all)), 1)
	for i, r := range c.Replicas {
		id := c.Nodes[i].Do("CLUSTER", "MYID")
		expect.Eventually(t, "the replica to know its primary", func() bool { _, err := r.Try("CLUSTER", "REPLICATE", id); return err == nil })
	}
	for _, r := range c.Replicas {
		r.untilFollowing()
	}
	// Every node must know who replicates whom, or a failover is refused.
	eachNode("the nodes to know the replicas", "NODES", "slave ", len(c.Replicas))
	eachNode("the cluster to agree", "INFO", "cluster_state:ok", 1)
	for _, n := range all {
		n.Do("CONFIG", "SET", "cluster-node-timeout", millis(timeout))
	}
	return c
}

func millis(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

func (c *Cluster) meet(t testing.TB, n *Server, others []*Server) {
	t.Helper()
	for _, other := range others {
		host, port, err := net.SplitHostPort(other.Addr)
		if err != nil {
			t.Fatal(err)
		}
		n.Do("CLUSTER", "MEET", host, port)
	}
}

// FailOver makes the i-th pair of primary and replica change places, in order, and
// returns when both have settled.
func (c *Cluster) FailOver(i int) {
	c.t().Helper()
	var asked time.Time
	expect.Eventually(c.t(), "the failover", func() bool {
		if time.Since(asked) > 6*time.Second { // the nodes give one up after 5 s, on a busy machine
			_, _ = c.Replicas[i].Try("CLUSTER", "FAILOVER") // it says no while one is on its way
			asked = time.Now()
		}
		return c.Replicas[i].Reigns()
	})
	c.Nodes[i], c.Replicas[i] = c.Replicas[i], c.Nodes[i]
	c.Replicas[i].untilFollowing()
}

// Owner is the primary that has a key's slot.
func (c *Cluster) Owner(key string) *Server {
	c.t().Helper()
	for _, n := range c.Nodes {
		if _, err := n.Try("EXISTS", key); err == nil {
			return n
		}
	}
	c.t().Fatalf("nobody has the slot of %s", key)
	return nil
}

// Move begins to move the slot of a key from one primary to another: until finish, calls
// whose keys are not all on one of them are refused with TRYAGAIN.
func (c *Cluster) Move(key string) (finish func()) {
	c.t().Helper()
	from, to := c.Owner(key), c.Nodes[0]
	if to == from {
		to = c.Nodes[1]
	}
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		c.t().Fatal(err)
	}
	slot, fromID, toID := from.Do("CLUSTER", "KEYSLOT", key), from.Do("CLUSTER", "MYID"), to.Do("CLUSTER", "MYID")
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	return func() {
		c.t().Helper()
		for {
			keys := strings.Fields(from.Do("CLUSTER", "GETKEYSINSLOT", slot, "100"))
			if len(keys) == 0 {
				break
			}
			from.Do(append([]string{"MIGRATE", host, port, "", "0", "10000", "KEYS"}, keys...)...)
		}
		to.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
		from.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
}

// Refused is what the primaries tell of calls that they have refused with TRYAGAIN.
func (c *Cluster) Refused() (counts string) {
	for _, n := range c.Nodes {
		counts += n.Info("errorstats", "errorstat_TRYAGAIN") + " "
	}
	return counts
}

func (c *Cluster) t() testing.TB { return c.Nodes[0].t }
