// Package soak looks for what the other tests do not think of. It runs the whole
// program in processes of its own under a random load, breaks things around it by
// a random schedule (processes killed and stopped, disks filled, backups put back,
// Redis killed, cut off and failed over), writes down what every caller and every
// client was told, and judges that history against the promises: whatever was
// answered with 202 is seen by each of its readers in order or announced as gone,
// nobody sees what is not theirs, and no answer lied. What users send to the backend
// reaches it in their order; each ack, escalation and end of an event is told to it, and
// who comes and goes; no callback tells of what did not happen, and none is tried again
// once the backend has taken it.
//
// The schedule and the load follow from one seed. The schedule repeats exactly;
// the load makes the same choices, at moments that depend on the machine.
//
// What it cannot do: step the clock, since the program reads the system's.
package soak
