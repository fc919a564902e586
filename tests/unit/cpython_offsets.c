/* Print members of cowtrace.symbolizer.cpython.offsets.Layout, as the headers of one CPython say. */
#define Py_BUILD_CORE 1
#include <Python.h>
#include <frameobject.h>
#include <stddef.h>
#include <stdio.h>
#include "internal/pycore_runtime.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_gc.h"
#if PY_VERSION_HEX >= 0x030b0000
#include "internal/pycore_dict.h"
#include "internal/pycore_frame.h"
#endif
#if PY_VERSION_HEX >= 0x030e0000
#include "internal/pycore_interpframe_structs.h"
#endif

#define NUMBER(name, value) printf(#name " %llu\n", (unsigned long long)(value))
#define OFFSET(name, type, member) NUMBER(name, offsetof(type, member))

int main(void)
{
	NUMBER(minor, PY_MINOR_VERSION);
	OFFSET(ob_refcnt, PyObject, ob_refcnt);
	OFFSET(ob_type, PyObject, ob_type);
	OFFSET(ob_size, PyVarObject, ob_size);

	NUMBER(type_bytes, sizeof(PyTypeObject));
	OFFSET(tp_name, PyTypeObject, tp_name);
	OFFSET(tp_basicsize, PyTypeObject, tp_basicsize);
	OFFSET(tp_itemsize, PyTypeObject, tp_itemsize);
	OFFSET(tp_flags, PyTypeObject, tp_flags);
	OFFSET(tp_dict, PyTypeObject, tp_dict);
	NUMBER(heap_type_bytes, sizeof(PyHeapTypeObject));
	OFFSET(ht_name, PyHeapTypeObject, ht_name);
	OFFSET(ht_qualname, PyHeapTypeObject, ht_qualname);
	OFFSET(ht_module, PyHeapTypeObject, ht_module);
	NUMBER(gc_head_bytes, sizeof(PyGC_Head));
#if PY_VERSION_HEX >= 0x030c0000
	NUMBER(pre_header_flags, Py_TPFLAGS_PREHEADER);
#elif PY_VERSION_HEX >= 0x030b0000
	NUMBER(pre_header_flags, Py_TPFLAGS_MANAGED_DICT);
#endif
#if PY_VERSION_HEX >= 0x030d0000
	NUMBER(inline_values_flag, Py_TPFLAGS_INLINE_VALUES);
#endif

	OFFSET(unicode_length, PyASCIIObject, length);
	OFFSET(unicode_state, PyASCIIObject, state);
	NUMBER(ascii_bytes, sizeof(PyASCIIObject));
	NUMBER(compact_bytes, sizeof(PyCompactUnicodeObject));
	OFFSET(ob_sval, PyBytesObject, ob_sval);
	OFFSET(ma_keys, PyDictObject, ma_keys);
	OFFSET(ma_values, PyDictObject, ma_values);
#if PY_VERSION_HEX >= 0x030b0000
	OFFSET(dk_log2_index_bytes, struct _dictkeysobject, dk_log2_index_bytes);
	OFFSET(dk_kind, struct _dictkeysobject, dk_kind);
	OFFSET(dk_nentries, struct _dictkeysobject, dk_nentries);
	OFFSET(dk_indices, struct _dictkeysobject, dk_indices);
#endif

	OFFSET(co_filename, PyCodeObject, co_filename);
	OFFSET(co_name, PyCodeObject, co_name);
	OFFSET(co_firstlineno, PyCodeObject, co_firstlineno);
#if PY_VERSION_HEX >= 0x030b0000
	OFFSET(co_qualname, PyCodeObject, co_qualname);
	OFFSET(co_code_adaptive, PyCodeObject, co_code_adaptive);
#endif
#if PY_VERSION_HEX >= 0x030a0000
	OFFSET(co_linetable, PyCodeObject, co_linetable);
#else
	OFFSET(co_linetable, PyCodeObject, co_lnotab);
#endif

	OFFSET(finalizing, _PyRuntimeState, _finalizing);
	OFFSET(interpreters_main, _PyRuntimeState, interpreters.main);
#if PY_VERSION_HEX < 0x030c0000
	OFFSET(runtime_gil_holder, _PyRuntimeState, ceval.gil.last_holder);
#else
	OFFSET(interpreter_gil, PyInterpreterState, ceval.gil);
	OFFSET(gil_last_holder, struct _gil_runtime_state, last_holder);
#endif
#if PY_VERSION_HEX < 0x030b0000
	OFFSET(threads_head, PyInterpreterState, tstate_head);
#else
	OFFSET(threads_head, PyInterpreterState, threads.head);
#endif
	OFFSET(gc, PyInterpreterState, gc);
	OFFSET(gc_collecting, struct _gc_runtime_state, collecting);
	OFFSET(gc_generations, struct _gc_runtime_state, generations);
	NUMBER(gc_generation_bytes, sizeof(struct gc_generation));
	OFFSET(gc_generation_count, struct gc_generation, count);

	OFFSET(thread_interp, PyThreadState, interp);
	OFFSET(thread_id, PyThreadState, thread_id);
#if PY_VERSION_HEX < 0x030b0000
	OFFSET(thread_frame, PyThreadState, frame);
	OFFSET(frame_previous, PyFrameObject, f_back);
	OFFSET(frame_code, PyFrameObject, f_code);
	OFFSET(frame_instruction, PyFrameObject, f_lasti);
#else
	OFFSET(native_thread_id, PyThreadState, native_thread_id);
	OFFSET(frame_previous, _PyInterpreterFrame, previous);
	OFFSET(frame_owner, _PyInterpreterFrame, owner);
#if PY_VERSION_HEX < 0x030d0000
	OFFSET(thread_frame, PyThreadState, cframe);
	OFFSET(thread_frame_second, _PyCFrame, current_frame);
	OFFSET(frame_code, _PyInterpreterFrame, f_code);
	OFFSET(frame_instruction, _PyInterpreterFrame, prev_instr);
#else
	OFFSET(thread_frame, PyThreadState, current_frame);
	OFFSET(frame_code, _PyInterpreterFrame, f_executable);
	OFFSET(frame_instruction, _PyInterpreterFrame, instr_ptr);
#endif
#endif
#if PY_VERSION_HEX >= 0x030e0000
	NUMBER(frame_code_mask, ~(unsigned long long)Py_TAG_BITS);
#endif
	return 0;
}
