typedef unsigned long u64; typedef unsigned int u32; typedef unsigned char u8;
/*
 * A reader-combining lock in front of a slow counter, written after its public description. readers.txt has the bytes that
 * compilers make of it, each with a name, its address and that of the word:
 *
 *   gcc -O2 -DRESTORE=1 -mcmodel=kernel -mno-red-zone -fno-pic -fno-asynchronous-unwind-tables -c reader.c
 *   ld -Ttext 0xffffffff81061250 -Tdata 0xffffffff82205040 -e read_counter reader.o
 *
 * RESTORE: 0 popf, 1 sti behind a test (kernels since 5.12), 2 popf of RDI (a patched paravirtual call). XOR compares whole
 * words. llvm-O2 is the same in Rust, by rustc 1.95.
 */
union word { struct { u32 lock; u32 value; }; u64 whole; };
union word guard __attribute__((aligned(64)));
volatile char *counter_base;
int depth;
struct clocksource;
#ifdef XOR
#define SAME !((new.whole ^ old.whole) >> 32)
#else
#define SAME new.value == old.value
#endif
#define READ(x) (*(volatile typeof(x)*)&(x))
static inline u32 counter(void){ return *(volatile u32*)(counter_base + 0xf0); }
static inline int in_nmi(void){ return READ(depth) & 0x100000; }
static inline u64 save(void){ u64 f; asm volatile("pushf; pop %0" : "=r"(f)::"memory"); asm volatile("cli":::"memory"); return f; }
#if RESTORE == 0
static inline void restore(u64 f){ asm volatile("push %0; popf"::"r"(f):"memory","cc"); }
#elif RESTORE == 1
static inline void restore(u64 f){ if (f & 0x200) asm volatile("sti":::"memory"); }
#else
static inline void restore(u64 f){ asm volatile("push %%rdi; popf; nopl 0(%%rax,%%rax)"::"D"(f):"memory","cc"); }
#endif
static inline int trylock(u32*l){ u32 e=READ(*l); if(e) return 0; return __atomic_compare_exchange_n(l,&e,1,0,2,0); }
u64 read_counter(struct clocksource *cs)
{
	union word old, new; u64 f;
	if (in_nmi()) return counter();
	old.whole = READ(guard.whole);
	if (old.lock) goto contended;
	f = save();
	if (trylock(&guard.lock)) {
		new.value = counter();
		READ(guard.value) = new.value;
		asm volatile("":::"memory");
		*(volatile u8*)&guard.lock = 0;
		restore(f);
		return new.value;
	}
	restore(f);
contended:
	do { asm volatile("pause":::"memory"); new.whole = READ(guard.whole); } while (SAME && new.lock);
	return new.value;
}
