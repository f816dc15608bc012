package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"

	"hookbridge/app/bridge"
	"hookbridge/app/store/sqlite/walfile"
)

var (
	_ bridge.Store  = (*Store)(nil)
	_ bridge.Outbox = (*Store)(nil)
)

// fileName is the store's main file.
const fileName = "bridge.db"

// Store keeps everything in one folder of this machine. See the package's
// documentation for how.
type Store struct {
	opts    Options
	epoch   string
	lives   *lives
	lock    *dirLock
	files   *watched
	reserve *reserve
	vfs     *walfile.VFS
	hub     atomic.Pointer[bridge.Hub]
	closed  atomic.Bool

	posted  chan struct{} // see Posted
	queue   *queue
	acks    *ackBook
	health  *health
	metrics *metrics
	revoked revocations

	// commitMu is held during a transaction, and by a checkpoint that must not run
	// beside one.
	commitMu    sync.Mutex
	writer      *writer
	fanned      chan struct{} // closed once the fan-out has answered everybody
	pages       *sqlite3.Conn // reads a large file through, once; nil where that was done
	stopCheck   func()        // ends that early
	checked     chan struct{} // closed once it has
	checkpoints *checkpointer
	readers     *readers

	conns []*sqlite3.Conn // to close, last opened first
}

// Open makes or reopens the store in o.Dir and starts it. It refuses a folder
// that another process has open, and a file that a newer program wrote; the
// error says what to do. The context covers opening only.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	o, lock, err := occupy(ctx, o)
	if err != nil {
		return nil, err
	}
	e := &Store{
		opts:   o,
		posted: make(chan struct{}, 1),
		queue:  newQueue(o.QueueLimit, o.Patience),
		acks:   newAckBook(),
		health: &health{logger: o.Logger},
		fanned: make(chan struct{}), checked: make(chan struct{}), stopCheck: func() {},
		lock: lock,
	}
	e.reserve = newReserve(o.Dir)
	e.vfs = walfile.New(o.Guard)
	defer func() {
		if err != nil {
			err = errors.Join(err, e.letGo())
		}
	}()
	// To open the files takes some room, also where there is no other.
	if err := e.reserve.release(); err != nil {
		return nil, fmt.Errorf("use the room that is kept on the disk: %w", err)
	}
	if err := e.openFile(); err != nil {
		if free := e.reserve.free(); free < minReserve {
			err = fmt.Errorf("%w: %d bytes are free (%w)", errDiskFull, free, err)
		}
		return nil, err
	}
	if err := e.reserve.fill(); walfile.Full(err) || errors.Is(err, errDiskFull) {
		e.health.setFull(true)
	} else if err != nil {
		return nil, fmt.Errorf("keep room on the disk: %w", err)
	}
	if e.metrics, err = newMetrics(o.Registerer, e.vfs, e.queue, o.Guard); err != nil {
		return nil, fmt.Errorf("register the store's metrics: %w", err)
	}
	e.writer.lookForRoom()
	go e.writer.loop()
	go e.fanOut()
	go e.checkpoints.loop()
	go o.Guard.Run("store check", e.checkBeside)
	return e, nil
}

// occupy makes the folder where it is missing, and this process the only one in it.
func occupy(ctx context.Context, o Options) (Options, *dirLock, error) {
	o, err := o.withDefaults()
	if err != nil {
		return o, nil, err
	}
	if err := ctx.Err(); err != nil {
		return o, nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return o, nil, fmt.Errorf("the data folder: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return o, nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return o, nil, err
	}
	if err := checkFiles(o.Dir); err != nil {
		return o, nil, closing(lock, err)
	}
	return o, lock, nil
}

// setupWriter is for a connection that writes. Order matters: page size and
// auto_vacuum only take before the first table.
var setupWriter = fmt.Sprintf(`PRAGMA page_size = %d; PRAGMA auto_vacuum = INCREMENTAL;
	PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
	PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -32768; PRAGMA cache_spill = OFF;
	PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON`, walfile.PageSize)

// openFile opens all connections, the writer's first: it brings the file into
// shape for the others.
func (s *Store) openFile() (err error) {
	path := filepath.Join(s.opts.Dir, fileName)
	size, err := sizeOf(path)
	if err != nil {
		return err
	}
	if size < 0 {
		defer func() {
			if err != nil {
				s.unmake(path)
			}
		}()
	}
	c, err := s.connect(path, setupWriter)
	if corrupt(err) {
		return pageFault(path, err)
	}
	if err != nil {
		return err
	}
	if size <= checkAtOnce {
		if err := checkPages(c, path); err != nil {
			return err
		}
	}
	if err := migrate(c, path); err != nil {
		return err
	}
	if err := refuseHalf(c, path); err != nil {
		return err
	}
	if s.epoch, err = loadEpoch(c); err != nil {
		return fmt.Errorf("read the store's name: %w", err)
	}
	if s.lives, err = loadLives(c); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	statements, err := newStatements(c)
	if err != nil {
		return err
	}
	if err := checkPresenceSoon(c, s.opts.Now()); err != nil {
		return fmt.Errorf("begin to write into %s: %w", path, err)
	}
	if s.writer, err = newWriter(s, statements); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := s.writer.recoverJournal(); err != nil {
		return err
	}
	if s.lives, err = beginLife(c); err != nil {
		return fmt.Errorf("begin to write into %s: %w", path, err)
	}
	s.writer.live()
	if s.files, err = watch(s.vfs, path); err != nil {
		return err
	}
	if err := s.revoked.load(c); err != nil {
		return fmt.Errorf("read what was revoked: %w", err)
	}
	k, err := s.connect(path, "PRAGMA busy_timeout = 250; SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return err
	}
	s.checkpoints = newCheckpointer(k, newLogSizes(s.reserve.size), s.vfs, &s.commitMu, s.opts.Logger, s.opts.Guard)
	s.checkpoints.log, s.checkpoints.journal, s.checkpoints.acks = path+"-wal", s.writer.tail.journal, s.acks
	s.readers = newReaders(readerCount)
	for range readerCount {
		c, err := s.connect(path, "PRAGMA query_only = ON; PRAGMA cache_size = -4096")
		if err != nil {
			return err
		}
		r, err := newReader(c)
		if err != nil {
			return err
		}
		r.looked = s.health.looked
		s.readers.give(r)
	}
	if size > checkAtOnce {
		if s.pages, err = s.connect(path, "PRAGMA query_only = ON; PRAGMA cache_size = -4096"); err != nil {
			return err
		}
		var ctx context.Context
		ctx, s.stopCheck = context.WithCancel(context.Background())
		s.pages.SetInterrupt(ctx)
	}
	return nil
}

// checkAtOnce is how large a file may be, in bytes, that is read through before
// the store opens; a larger one is read beside the work, at about 200 MB a second.
const checkAtOnce = 128 << 20

// checkBeside reads a large file through while the store is in use.
func (s *Store) checkBeside() {
	defer close(s.checked)
	if s.pages == nil {
		return
	}
	// The check reads one state of the file, so that the write-ahead log cannot
	// start over meanwhile: held spares the writer the attempts.
	s.checkpoints.held.Store(true)
	defer s.checkpoints.held.Store(false)
	err := checkPages(s.pages, filepath.Join(s.opts.Dir, fileName))
	if err != nil && !errors.Is(err, sqlite3.INTERRUPT) {
		s.health.damage(fmt.Errorf("%w: %w", errDamaged, err))
	}
}

// unmake removes the empty file of a store that could not be made, which the next
// start would refuse.
func (s *Store) unmake(path string) {
	if size, err := sizeOf(path); err != nil || size != 0 {
		return
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.opts.Logger.Warn("a file without content stays behind", "error", err)
		}
	}
}

func (s *Store) connect(path, setup string) (*sqlite3.Conn, error) {
	c, err := connect(s.vfs, path, setup)
	if err == nil {
		s.conns = append(s.conns, c)
	}
	return c, err
}

func connect(v *walfile.VFS, path, setup string) (*sqlite3.Conn, error) {
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: "vfs=" + v.Name()}
	c, err := sqlite3.OpenFlags(name.String(), sqlite3.OPEN_READWRITE|sqlite3.OPEN_CREATE|sqlite3.OPEN_URI)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	// The driver's own default would not sync a commit, and walfile relies on
	// it: so that setting comes before anything that could write.
	if err := c.Exec("PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; " + setup); err != nil {
		return nil, closing(c, fmt.Errorf("set up %s: %w", path, err))
	}
	return c, nil
}

// Epoch implements bridge.Store.
func (s *Store) Epoch() string { return s.epoch }

// Listen implements bridge.Store.
func (s *Store) Listen(h bridge.Hub) { s.hub.Store(&h) }

// Close implements bridge.Store. Beside ErrClosed it returns what went wrong
// with the last acks or with the file.
func (s *Store) Close() error {
	if !s.queue.close() {
		return bridge.ErrClosed
	}
	s.closed.Store(true)
	<-s.fanned
	s.stopCheck()
	<-s.checked
	s.checkpoints.close()
	s.readers.close()
	s.metrics.close()
	err := errors.Join(s.writer.lastErr, s.letGo())
	// Where not all of it is durable in the file, the next start takes it over.
	if j := s.writer.tail.journal; j.Settled() && s.health.isDamaged() == nil {
		return errors.Join(err, j.Remove())
	}
	return errors.Join(err, s.writer.tail.journal.Close())
}

// letGo closes the connections and gives back the file access and the lock.
func (s *Store) letGo() error {
	var errs []error
	// The writer's connection goes last: it copies what is left in the
	// write-ahead log and removes that.
	for i := len(s.conns) - 1; i >= 0; i-- {
		if s.health.isDamaged() != nil {
			// What is left in a damaged log would be copied over a main file that
			// may be sound.
			if _, err := s.conns[i].Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true); err != nil {
				errs = append(errs, err)
			}
		}
		errs = append(errs, closeConn(s.conns[i]))
	}
	s.conns = nil
	s.vfs.Close()
	return errors.Join(append(errs, s.lock.Close())...)
}

// Closed is for local.Live.
func (s *Store) Closed() bool { return s.closed.Load() }
