package redistest

import (
	"net"
	"testing"

	"hookbridge/app/expect"
)

// Pair is a primary and its replica behind one address, which leads to whichever of
// both reigns.
type Pair struct {
	Primary, Replica *Server

	t     testing.TB
	proxy *Proxy
}

// StartPair starts both; the replica has all that the primary has.
func StartPair(t testing.TB) *Pair {
	t.Helper()
	p := &Pair{t: t, Primary: Start(t)}
	p.proxy = NewProxy(t, p.Primary.Addr)
	p.Replica = StartReplica(t, p.Primary)
	return p
}

// URL is what a store is opened with.
func (p *Pair) URL() string { return p.proxy.URL() }

// Settle waits until the replica has all that the primary has.
func (p *Pair) Settle() {
	p.t.Helper()
	expect.Eventually(p.t, "the replica to have it all", func() bool {
		had := p.Replica.Info("replication", "slave_repl_offset")
		return p.Replica.Info("replication", "master_link_status") == "up" && had != "" && had == p.Primary.Info("replication", "master_repl_offset")
	})
}

// CutOff lets the replica have all that there is, and nothing from then on. A server
// that was promoted gets the other one for its replica first.
func (p *Pair) CutOff() {
	p.t.Helper()
	following := net.JoinHostPort(p.Replica.Info("replication", "master_host"), p.Replica.Info("replication", "master_port"))
	if p.Replica.Info("replication", "role") != "slave" || following != p.Primary.Addr {
		p.follow(p.Replica, p.Primary.Addr)
	}
	p.Settle()
	p.follow(p.Replica, freeAddr(p.t)) // where nobody is
	expect.Eventually(p.t, "the replica to be cut off", func() bool { return p.Replica.Info("replication", "master_link_status") == "down" })
}

// Promote makes the replica the primary, as a failover would: those who were
// connected to the old one are disconnected and find the new one.
func (p *Pair) Promote() {
	p.t.Helper()
	p.Replica.Do("REPLICAOF", "NO", "ONE")
	p.Primary, p.Replica = p.Replica, p.Primary
	p.proxy.Aim(p.Primary.Addr)
	p.proxy.Drop()
}

// Stray disconnects everybody. Of the connections that are opened then, the one after skip
// others leads to the replica, whatever that takes itself for.
func (p *Pair) Stray(skip int) {
	p.proxy.Stray(skip, p.Replica.Addr)
	p.proxy.Drop()
}

// PromoteSilently is Promote, but those who are connected to the old primary, which
// becomes a replica, stay connected to it.
func (p *Pair) PromoteSilently() {
	p.t.Helper()
	p.Replica.Do("REPLICAOF", "NO", "ONE")
	p.Primary, p.Replica = p.Replica, p.Primary
	p.proxy.Aim(p.Primary.Addr)
	p.Demote()
}

// Demote makes the one that reigned before the replica of the one that reigns now,
// and waits until it has the same.
func (p *Pair) Demote() {
	p.t.Helper()
	p.follow(p.Replica, p.Primary.Addr)
	p.Settle()
}

func (p *Pair) follow(s *Server, addr string) {
	p.t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		p.t.Fatal(err)
	}
	s.Do("REPLICAOF", host, port)
}
