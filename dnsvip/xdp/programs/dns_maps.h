/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The maps of the DNS program, and the working memory of a packet. Sizes marked "resized" are set before loading. */
#pragma once
#include "packet.h"

enum dns_bounds {
	NAME_BYTES = 88,   /* of the longest name, in a multiple of 8 */
	BODY_BYTES = 768,  /* of an answer, behind its question */
	OPT_BYTES = 64,    /* of the longest OPT record that is recognized, in a multiple of 8 */
	MOST_ANSWER = 12 + NAME_BYTES + 4 + BODY_BYTES + OPT_BYTES,
	LONGEST = 512,     /* bytes of a question */
	MAX_HOLES = 2,     /* addresses in an answer */
	MAX_SIGNATURES = 2,    /* that depend on them */
	SIGNATURE_BYTES = 176, /* of the data of one */
	MAX_CELLS = 4096,  /* ways in which answers are counted */
	MAX_MAKERS = 4096,
	MAX_CIPHERS = 1024,
	MAX_SECRETS = 4,
	MAX_TAKERS = 4,    /* of samples */
	MAX_ZONES = 16384, /* whose answers are counted; 0 stands for none */
	ACCOUNTS = 65536,  /* of the rate limit */
	SEEN = 65536,      /* 16 bits of a hash */
	EDNS_SIZE = 1232,  /* of our OPT records */
	GROUP_RUNS = 10,   /* two cache lines */
	PAGE_GROUPS = 29,  /* eight pages are less than 32 KiB */
	PAGES_EACH = 8,    /* of an array */
	RECORDS_EACH = 1008,
	PAGE_LEVELS = 4,
	MAX_LISTENERS = 256,
	RESOLVERS = 16384, /* senders of ECS options that are known */
	PAGES = 1,         /* arrays of pages, resized */
	RECORDS = 1,       /* the same */
	TEMPLATES = 16384, /* resized */
	SIGNATURES = 16384, /* resized */
	REQUESTERS = 65536, /* resized */
	RECENT = 1024,     /* of each processor */
	RECENT_EACH = 256  /* what a processor has of an array is at most 32 KiB */
};

#include "aes.h" /* for so many ciphers */

/* Why a packet is left to the server, and how many are answered. */
enum dns_reason {
	DNS_ANSWERED,
	DNS_NOT_OURS,          /* no question over UDP to a listener, or in a packet that is unusual */
	DNS_OFF,               /* no process feeds the maps, or answers are about to change */
	DNS_UNUSUAL,           /* no plain question of class IN, or a name that is too long */
	DNS_UNKNOWN_NAME,      /* there is no answer for the name and type */
	DNS_UNKNOWN_OPTION,    /* an OPT record with more than a size, DO, ECS and a cookie */
	DNS_SIGNED,            /* it takes a signature that has not been made, or is due to be made anew */
	DNS_TOO_BIG,           /* another answer is for so little room */
	DNS_UNKNOWN_REQUESTER, /* there is no address for the requester */
	DNS_NOT_SENT,          /* the frame could not grow */
	DNS_SLIPPED,           /* answered empty, with TC, by the rate limit */
	DNS_DROPPED,           /* by the rate limit */
	DNS_BUSY,              /* dropped, as the server has too much to do (dns_busy.h) */
	DNS_REASONS
};

/* What holds for all packets. Times are of the kernel's monotonic clock, in nanoseconds. What every packet needs is first, in
 * one cache line. */
struct dns_config {
	__u64 until;        /* what the maps hold is valid */
	__u64 now;          /* where not 0: the time, for tests */
	__s64 clock_offset; /* to add to it for unix time */
	__u32 names;        /* the generation of valid templates */
	__u32 addresses;    /* that of valid makers and requesters */
	__u8 mac[8];        /* the interface's own address */
	__u64 cost;         /* nanoseconds of the rate limit that an answer takes; 0: there is no limit */
	__u64 burst;        /* and that an account has at most */
	__u32 slip;         /* each so many-th answer beyond is sent empty; 0: none */
	__u8 is_sampled;
	__u8 secrets;       /* how many; 0: cookies are the server's */
	__u8 requires_cookies;
	__u8 has_signatures; /* DO makes a difference to some names */
	__u64 up_cost;     /* nanoseconds of the bucket that a question left to the server takes; 0: the server keeps up */
	__u64 name_key[2]; /* of the hash of questions, by which templates are found; the second is odd */
	__u32 one_in[MAX_TAKERS]; /* of how many answers each taker of samples gets one; 0: none */
	__u64 secret[MAX_SECRETS][2]; /* of cookies; the first makes them */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_config);
} dns_config SEC(".maps");

/* What gets the packets that the program passes: the dispatcher, where one is on the interface (xdp/chain.py). */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

/* An address that a listener answers on; an IPv4 address is in the last four bytes. */
struct door_key {
	__be64 address[2];
	__be16 port;
	__u8 version;
	__u8 zero[5];
};

struct door {
	__u8 listener;
	__u8 guard; /* enum door_guard */
};

/* Whom a listener answers: those in map `requesters`, but where it answers all. */
enum door_guard {
	GUARD_NONE,
	GUARD_NETWORKS,
	GUARD_KNOWN, /* whom ECS may identify, so that such questions are the server's */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct door_key);
	__type(value, struct door);
} doors SEC(".maps");

/* The name in lower case as in a message, then zeros. */
struct asked_name {
	__u64 name[NAME_BYTES / 8];
	__be16 type;
	__u8 wants_signatures; /* DO */
	__u8 zero[5];
};

/* When signatures are used, in unix seconds: from `since` to before `until`. */
struct dns_period {
	__u32 since;
	__u32 until;
};

/* An address to fill in: where in the body, 4 or 16 bytes, made by which maker. */
struct dns_hole {
	__u16 at;
	__u8 length;
	__u8 zero;
	__u16 maker;
};

/* A signature of addresses to fill in: where in the body, how long, and of which set. */
struct signature_hole {
	__u16 at;
	__u16 length;
	__u32 zero;
	__u64 set;
};

/* An answer as dnsvip/dns/hotpath/templates.py has it. Which ones stay is for user space to say (eviction.py): a hash
 * that evicts by itself would keep what strangers make up. */
struct template {
	struct asked_name name; /* that it answers: another one may have the same hash */
	__u32 generation;
	__u32 used;   /* when it was last asked for, in unix seconds */
	__u16 size;   /* of the answer without OPT */
	__u16 beyond; /* in so much room there is more in it */
	__u64 owner;  /* hash of the question, its key: the map may give the record to another one while it is read */
	__u16 body;   /* bytes of what follows the question; 0: the answer is the server's */
	__u16 cell;   /* where it is counted; with holes, that of the address is added */
	__u16 sum;    /* of the body, holes being zero, as if it began at an even offset */
	__be16 flags; /* of the header, without RD */
	__be16 counts[3];
	__u64 kind;   /* of answer, by which the rate is limited */
	__u16 zone;   /* where it is counted, too */
	__u8 by_edns; /* it is the answer to EDNS too */
	__u8 holes;
	__u8 signatures;
	__u8 zero;
	struct dns_period period;
	struct dns_hole hole[MAX_HOLES];
	struct signature_hole signature[MAX_SIGNATURES];
	__u8 data[BODY_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TEMPLATES);
	__type(key, __u64);
	__type(value, struct template);
} templates SEC(".maps");

/* A set, by a number for its name, type, keys and generation, with its addresses filled in. */
struct signed_set {
	__u64 set;
	__be64 address[MAX_HOLES][2];
};

/* The data of a signature's record. */
struct signature {
	__u64 owner; /* hash of the key: the map may give the record to another one while it is read */
	struct dns_period period;
	__u16 length;
	__u16 sum; /* of the data, as if it began at an even offset */
	__u32 zero;
	__u8 data[SIGNATURE_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIGNATURES);
	__type(key, struct signed_set);
	__type(value, struct signature);
} signatures SEC(".maps");

/* Who asks, for an address of a maker; 0 stands for leave to ask at a guarded listener. */
struct requester {
	__be64 source[2];
	__be64 ecs[2];
	__u16 maker;
	__u8 listener;
	__u8 version;
	__u8 family; /* of ECS; 0: there is none */
	__u8 bits;   /* SOURCE PREFIX-LENGTH */
	__u16 zero;
};

/* An address of a requester, and how an answer with it is counted. */
struct made {
	__be64 address[2];
	__u64 owner; /* hash of the key and the generation: another requester may get the record while it is read */
	__u32 since; /* when its slot begins, in unix seconds */
	__u32 renew; /* seconds of a slot; 0: the address stays */
	__u32 check; /* of all else: two processors may write at a time */
	__u16 cell;
	__u8 scope;
	__u8 zero;
};

/* The last one that was made, and what all are made of (dnsvip/dns/synthesis/issuer.py). The map's own 48 bytes, the key
 * and this are three cache lines; an address that is made already needs two of them. */
struct ready {
	struct made made;
	struct wide payload; /* all fields but nonce and expiry */
	__u64 hashed[4];     /* 26 bytes, of which the nonce is a hash */
	__u64 unused[2];
};

/* The cluster's active epoch, as dnsvip/address/suffix.py and issuer.py have it. */
struct maker {
	struct wide base;    /* prefix and epoch */
	struct wide plain;   /* the plain VIP */
	struct wide suffix;  /* the bits below the prefix */
	struct wide mid;     /* FF1's constant block, encrypted */
	__u64 nonce_key[2];
	__u64 tag_key[2];
	__u64 activated;     /* when the epoch was, in seconds */
	__u32 generation;
	__u32 cipher;
	__u32 renew;         /* seconds of a slot */
	__u32 ttl;
	__u32 expiry_unit;
	__u32 bits;          /* of the payload */
	__u32 payload_shift;
	__u32 tag_bits;
	__u32 nonce_bits;
	__u32 nonce_shift;
	__u32 expiry_bits;
	__u32 expiry_shift;
	__u32 session_shift;
	__u32 zero;
	__u64 session_mask;  /* 0: there is none */
	__u64 session_key[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_MAKERS);
	__type(key, __u32);
	__type(value, struct maker);
} makers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, REQUESTERS);
	__type(key, struct requester);
	__type(value, struct ready);
} requesters SEC(".maps");

/* Runs of addresses, sorted: 64 bits of where each begins (an IPv4 address in the upper half), and whose it is, by number;
 * above the leaves, the page below. One start more is that of the next group, 0 where that is in another page. */
struct run_group {
	__u64 start[GROUP_RUNS + 1];
	__u32 owner[GROUP_RUNS];
};

/* The last run is repeated up to the end. `first` are the starts of the groups, and the greatest number behind them. Memory is
 * waited for twice: for the lines of `first`, and for those of a group. */
struct run_page {
	__u64 first[(PAGE_GROUPS + 7) / 8 * 8];
	struct run_group group[PAGE_GROUPS];
};

/* Arrays of up to 32 KiB with what the kernel has in front of it (some 300 bytes) are in its large pages; greater ones are in
 * those of 4 KiB, for each of which an address has to be translated (dnsvip/xdp/split_array.py). */
#define LARGEST_ARRAY (32768 - 512)

struct page_array {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAGES_EACH);
	__type(key, __u32);
	__type(value, struct run_page);
} pages0 SEC(".maps"); /* the template of the inner maps; not used itself */

_Static_assert(PAGES_EACH * sizeof(struct run_page) <= LARGEST_ARRAY, "pages must be in an array that is small enough");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PAGES);
	__type(key, __u32);
	__array(values, struct page_array);
} pages SEC(".maps");

enum run_step { RUNS_OF_ECS, RUNS_OF_SOURCE, RUN_STEPS };

/* What a maker makes somebody's addresses of. */
enum record_kind {
	RECORD_NONE,      /* the server makes them */
	RECORD_STAYS,     /* one for all slots */
	RECORD_CLIENT,    /* nonces are hashes of a client's number */
	RECORD_BY_PREFIX, /* and of the prefix that asks */
};

struct record {
	struct wide value; /* all fields but nonce and expiry; an address that stays, as in `struct ready` */
	__u64 client;      /* what nonces are hashes of */
	__u8 kind;
	__u8 cell[RUN_STEPS]; /* by the step that identified it */
	__u8 is_short;        /* value.hi is 0: it may be in another cache line */
	__u8 zero[4];
};

struct record_array {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECORDS_EACH);
	__type(key, __u32);
	__type(value, struct record);
} records0 SEC(".maps"); /* as above */

_Static_assert(RECORDS_EACH * sizeof(struct record) <= LARGEST_ARRAY, "records must be in an array that is small enough");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, RECORDS);
	__type(key, __u32);
	__array(values, struct record_array);
} records SEC(".maps");

/* A maker's records: where they begin, and how many there are. */
struct record_set {
	__u32 generation;
	__u32 first;
	__u32 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_MAKERS);
	__type(key, __u32);
	__type(value, struct record_set);
} record_sets SEC(".maps");

struct run_tree {
	__u32 page;
	__u32 levels; /* 0: it is not here */
};

/* Whom a step finds where no prefix is: the number of a record; NONE: the server looks further. */
struct otherwise {
	__u32 record;
	__u8 looks; /* the runs are looked at before */
	__u8 step;  /* whose cell counts */
	__u16 zero;
};

/* How requesters are identified that have not asked before. */
struct identity {
	__u32 generation;
	__u32 owners; /* the record of owner 0 */
	struct run_tree tree[RUN_STEPS][2]; /* of IPv4 and IPv6 */
	struct run_tree trusted[2]; /* networks whose ECS options are believed */
	struct otherwise source[MAX_LISTENERS]; /* by listener, of those without ECS */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct identity);
} identities SEC(".maps");

/* A sender of ECS options at a listener, and what these say. */
struct resolver_key {
	__be64 source[2];
	__u8 listener;
	__u8 version;
	__u8 zero[6];
};

struct resolver {
	__u64 owner; /* hash of the key: the map may give the record to another one while it is read */
	__u32 generation;
	__u32 zero;
	struct otherwise otherwise;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RESOLVERS);
	__type(key, struct resolver_key);
	__type(value, struct resolver);
} resolvers SEC(".maps");

/* The address that somebody has got lately, whom the runs identify. */
struct recent {
	__u32 mark; /* part of the hash of `who` */
	__u32 next; /* that of who else has come last; where he comes again, the place is his */
	__u32 generation;
	__u32 since; /* as in `struct made` */
	__u32 renew;
	__u16 cell;
	__u8 scope;
	__u8 zero;
	__be64 address[2];
	struct requester who;
};

struct recent_group {
	struct recent recent[RECENT_EACH];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RECENT / RECENT_EACH);
	__type(key, __u32);
	__type(value, struct recent_group);
} recents SEC(".maps");

/* Answers by zone. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_ZONES);
	__type(key, __u32);
	__type(value, __u64);
} dns_zones SEC(".maps");

/* Answers by how they are counted (dnsvip/dns/counters.py). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_CELLS);
	__type(key, __u32);
	__type(value, __u64);
} cells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DNS_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} dns_reasons SEC(".maps");

/* Marks of what was missing lately: what is missing twice is told to user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SEEN);
	__type(key, __u32);
	__type(value, __u32);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} missing SEC(".maps");

/* A question, as it goes into `missing`. What follows it in memory is zero. */
struct asked {
	__be64 source[2];
	__u16 length;
	__u8 listener;
	__u8 version;
	__u8 wire[LONGEST + 492]; /* a power of two in all, so that the verifier follows */
};

#define HEAD_BYTES (22 + 40 + 8 + 12 + NAME_BYTES + 4) /* of the longest headers, with the question */

/* The ECS option of a question; no family: there is none. */
struct subnet {
	__be64 address[2];
	__u8 family;
	__u8 bits; /* SOURCE PREFIX-LENGTH */
	__u16 zero[3];
};

/* Whose prefix a question comes from: the number of a record, NONE where the server has to look; and the ECS scope. */
struct whose {
	__u64 missing; /* hash of what is to be known for it */
	__u64 sender;  /* that of a sender of ECS options that is not known; 0: there is none */
	__u32 record;
	__u32 scope;
	__u8 is_known; /* looked for already */
	__u8 step;
	__u16 zero;
};

struct dns_work {
	struct asked asked; /* first, so that the name in it is at a multiple of 8 */
	struct asked_name name;
	struct subnet ecs;
	struct requester who;
	struct whose whose;
	struct requester identity; /* that stands for all who have the same addresses */
	__u64 place; /* hash of `who` */
	struct ready fresh; /* what is ready for a requester that is in no map */
	struct packet packet;
	__u64 unix_ns;
	__u64 unix_seconds;
	__u64 block[2]; /* FF1 */
	__u64 stream[2];
	struct wide payload;
	__u64 slot;
	struct half half;
	__u64 masks[2];
	__be64 address[MAX_HOLES][2];
	struct made made;
	struct signed_set of;
	struct signature signature[MAX_SIGNATURES];
	__u8 head[HEAD_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_work);
} dns_works SEC(".maps");

const struct {
	enum dns_bounds dns_bounds;
	enum door_guard door_guard;
	enum record_kind record_kind;
	enum dns_reason dns_reason;
} shared_enums SEC("enums") = {};
