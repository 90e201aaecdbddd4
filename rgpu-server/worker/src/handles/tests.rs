use super::*;

fn handles() -> Handles {
    Handles::new(Arc::default())
}

fn at(address: usize) -> *mut c_void {
    ptr::without_provenance_mut(address)
}

#[test]
fn ids_are_found_by_kind_and_taken_once() {
    let handles = handles();
    handles.insert(Kind::Stream, 16, at(0x1000)).unwrap();
    assert_eq!(handles.get(Kind::Stream, 16), Ok(at(0x1000)));
    assert_eq!(handles.get(Kind::Event, 16), Err(CudaError::INVALID_HANDLE));
    assert_eq!(handles.take(Kind::Stream, 16), Ok(at(0x1000)));
    assert_eq!(
        handles.take(Kind::Stream, 16),
        Err(CudaError::INVALID_HANDLE)
    );
}

#[test]
fn a_taken_id_is_refused_and_keeps_its_handle() {
    let handles = handles();
    handles.insert(Kind::Event, 16, at(0x1000)).unwrap();
    assert_eq!(
        handles.insert(Kind::Event, 16, at(0x2000)),
        Err(CudaError::INVALID_VALUE)
    );
    handles.poison(Kind::Event, 16, CudaError::OUT_OF_MEMORY);
    assert_eq!(handles.get(Kind::Event, 16), Ok(at(0x1000)));
}

#[test]
fn default_streams_need_no_entry_and_no_id_can_take_their_names() {
    let handles = handles();
    for id in 0..=2 {
        assert_eq!(handles.get(Kind::Stream, id), Ok(at(id as usize)));
        assert_eq!(
            handles.insert(Kind::Stream, id, at(0x1000)),
            Err(CudaError::INVALID_VALUE)
        );
    }
    assert_eq!(
        handles.take(Kind::Stream, 1),
        Err(CudaError::INVALID_HANDLE)
    );
}

#[test]
fn a_poisoned_id_answers_with_its_error_until_it_is_destroyed() {
    let handles = handles();
    handles.poison(Kind::Graph, 16, CudaError::OUT_OF_MEMORY);
    assert_eq!(handles.get(Kind::Graph, 16), Err(CudaError::OUT_OF_MEMORY));
    assert_eq!(handles.take(Kind::Graph, 16), Err(CudaError::OUT_OF_MEMORY));
    assert_eq!(handles.get(Kind::Graph, 16), Err(CudaError::INVALID_VALUE));
}

#[test]
fn nodes_end_with_their_graph() {
    let handles = handles();
    handles.insert(Kind::Graph, 16, at(0x1000)).unwrap();
    handles.insert(Kind::Graph, 17, at(0x2000)).unwrap();
    handles
        .insert_owned(Kind::GraphNode, 18, at(0x3000), at(0x1000))
        .unwrap();
    handles
        .insert_owned(Kind::GraphNode, 19, at(0x4000), at(0x2000))
        .unwrap();
    handles.take(Kind::Graph, 16).unwrap();
    assert_eq!(
        handles.get(Kind::GraphNode, 18),
        Err(CudaError::INVALID_VALUE)
    );
    assert_eq!(handles.get(Kind::GraphNode, 19), Ok(at(0x4000)));
}

#[test]
fn what_the_driver_names_gets_an_id_once_and_ends_with_its_graph() {
    let handles = handles();
    handles.insert(Kind::Graph, 16, at(0x1000)).unwrap();
    handles
        .insert_owned(Kind::GraphNode, 17, at(0x2000), at(0x1000))
        .unwrap();
    let nodes = [at(0x2000), at(0x3000), at(0x3000)];
    let ids = handles.name(Kind::GraphNode, &nodes, at(0x1000)).unwrap();
    assert_eq!((ids[0], ids[1]), (17, ids[2]));
    assert_eq!(
        handles.name(Kind::GraphNode, &nodes, at(0x1000)),
        Ok(ids.clone())
    );
    // A client that marks its ids finds its mark in these.
    handles
        .insert(Kind::Graph, 5 << 40 | 32, at(0x8000))
        .unwrap();
    let marked = handles
        .name(Kind::GraphNode, &[at(0x9000)], at(0x8000))
        .unwrap()[0];
    assert_eq!(marked & rgpu_proto::id::MARK, 5 << 40);
    // No id of the client's can be one of these.
    assert_eq!(
        handles.insert(Kind::Event, OURS | 16, at(0x5000)),
        Err(CudaError::INVALID_VALUE)
    );
    // A graph that is part of a node goes with it, and so do its nodes.
    let child = handles
        .name(Kind::Graph, &[at(0x6000)], at(0x3000))
        .unwrap()[0];
    let inner = handles
        .name(Kind::GraphNode, &[at(0x7000)], at(0x6000))
        .unwrap()[0];
    assert_eq!(
        handles.take(Kind::Graph, child),
        Err(CudaError::INVALID_VALUE)
    );
    handles.take(Kind::Graph, 16).unwrap();
    for (kind, id) in [
        (Kind::GraphNode, ids[1]),
        (Kind::Graph, child),
        (Kind::GraphNode, inner),
    ] {
        assert_eq!(handles.get(kind, id), Err(CudaError::INVALID_VALUE));
    }
}

#[test]
fn the_graph_of_a_capture_goes_with_its_stream() {
    let handles = handles();
    handles.insert(Kind::Stream, 16, at(0x1000)).unwrap();
    handles.begin_capture(at(0x1000), at(0x2000));
    let graph = handles.name(Kind::Graph, &[at(0x2000)], at(0)).unwrap()[0];
    let node = handles
        .name(Kind::GraphNode, &[at(0x3000)], at(0x2000))
        .unwrap()[0];
    handles.take(Kind::Stream, 16).unwrap();
    assert_eq!(
        handles.get(Kind::Graph, graph),
        Err(CudaError::INVALID_VALUE)
    );
    assert_eq!(
        handles.get(Kind::GraphNode, node),
        Err(CudaError::INVALID_VALUE)
    );
}

#[test]
fn every_thread_captures_in_its_own_stream_in_each_context() {
    let table = Arc::<HandleTable>::default();
    let threads = [Handles::new(table.clone()), Handles::new(table.clone())];
    let own = at(2);
    for (handles, graph) in threads.iter().zip([0x1000, 0x2000]) {
        handles.set_context(16);
        assert!(handles.expect_capture(own));
        handles.begin_capture(own, at(graph));
        assert!(!handles.expect_capture(own));
    }
    let [first, second] = threads;
    first.set_context(17);
    assert!(first.expect_capture(own));
    first.end_capture(own);
    first.set_context(16);
    let graph = second.name(Kind::Graph, &[at(0x2000)], at(0)).unwrap()[0];
    first.end_capture(own);
    assert!(table.is_capturing());
    assert_eq!(second.get(Kind::Graph, graph), Ok(at(0x2000)));
    second.drop_capture(own.addr());
    assert!(second.get(Kind::Graph, graph).is_err());
    assert!(!table.is_capturing());

    // They end with their context, and with their thread.
    first.insert(Kind::Context, 16, at(0x3000)).unwrap();
    assert!(second.expect_capture(own));
    first.end_context(16).unwrap();
    assert!(!table.is_capturing());
    assert!(second.expect_capture(own));
    drop(second);
    assert!(!table.is_capturing());
}

#[test]
fn what_belongs_to_a_context_ends_with_it() {
    let handles = handles();
    handles.insert(Kind::Context, 16, at(0x1000)).unwrap();
    handles.set_context(16);
    handles.insert(Kind::Stream, 17, at(0x2000)).unwrap();
    handles.insert(Kind::Module, 18, at(0x3000)).unwrap();
    handles
        .insert_owned(Kind::Function, 19, at(0x4000), at(0x3000))
        .unwrap();
    handles.set_context(0);
    handles.insert(Kind::Event, 20, at(0x5000)).unwrap();
    let ended = handles.contexts_ended();
    assert_eq!(handles.end_context(16), Ok((at(0x1000), vec![at(0x3000)])));
    assert_ne!(handles.contexts_ended(), ended);
    for (kind, id) in [(Kind::Stream, 17), (Kind::Module, 18), (Kind::Function, 19)] {
        assert_eq!(handles.get(kind, id), Err(CudaError::INVALID_HANDLE));
    }
    assert_eq!(handles.get(Kind::Event, 20), Ok(at(0x5000)));
}

#[test]
fn parts_of_arrays_and_references_of_modules_end_with_their_whole() {
    let handles = handles();
    handles.insert(Kind::Context, 16, at(0x1000)).unwrap();
    handles.set_context(16);
    let part = |id, pointer, of| {
        handles
            .insert_owned(Kind::Array, id, at(pointer), at(of))
            .unwrap();
    };
    let make = || {
        handles
            .insert(Kind::MipmappedArray, 17, at(0x2000))
            .unwrap();
        part(18, 0x3000, 0x2000);
        part(19, 0x4000, 0x3000);
        handles.insert(Kind::Array, 20, at(0x5000)).unwrap();
        part(21, 0x6000, 0x5000);
        handles.insert(Kind::Module, 22, at(0x7000)).unwrap();
        let (reference, module) = (at(0x8000), at(0x7000));
        handles
            .insert_owned(Kind::TextureRef, 23, reference, module)
            .unwrap();
        handles
            .insert_owned(Kind::SurfaceRef, 24, reference, module)
            .unwrap();
        handles.insert(Kind::TextureRef, 25, at(0x9000)).unwrap();
    };
    let gone = |kind, ids: &[u64]| {
        ids.iter()
            .all(|id| handles.get(kind, *id) == Err(CudaError::INVALID_HANDLE))
    };
    make();
    assert_eq!(handles.owner(Kind::TextureRef, 23), Ok(0x7000));
    assert_eq!(handles.owner(Kind::TextureRef, 25), Ok(16));
    handles.take(Kind::MipmappedArray, 17).unwrap();
    assert!(gone(Kind::Array, &[18, 19]));
    handles.take(Kind::Array, 20).unwrap();
    assert!(gone(Kind::Array, &[21]));
    handles.take(Kind::Module, 22).unwrap();
    assert!(gone(Kind::TextureRef, &[23]) && gone(Kind::SurfaceRef, &[24]));
    handles.take(Kind::TextureRef, 25).unwrap();
    // A context takes all of them.
    make();
    handles.end_context(16).unwrap();
    assert!(gone(Kind::MipmappedArray, &[17]) && gone(Kind::Array, &[18, 19, 20, 21]));
    assert!(gone(Kind::TextureRef, &[23, 25]) && gone(Kind::SurfaceRef, &[24]));
    assert_eq!(handles.table.count.load(Ordering::Relaxed), 0);
}

#[test]
fn what_a_call_uses_is_not_taken_away() {
    let table = Arc::new(HandleTable::default());
    let handles = Handles::new(table.clone());
    handles.insert(Kind::Stream, 16, at(0x1000)).unwrap();
    handles.pin(0);
    handles.get(Kind::Stream, 16).unwrap();
    handles.get(Kind::Stream, 16).unwrap();
    let (started, begin) = std::sync::mpsc::channel();
    let taker = std::thread::spawn(move || {
        let handles = Handles::new(table);
        started.send(()).unwrap();
        handles.take(Kind::Stream, 16).map(|_| ())
    });
    begin.recv().unwrap();
    // It is still there for as long as the call goes on.
    assert_eq!(handles.get(Kind::Stream, 16), Ok(at(0x1000)));
    assert!(!taker.is_finished());
    handles.unpin();
    assert_eq!(taker.join().unwrap(), Ok(()));
    assert!(handles.table.pinned().uses.is_empty());
    assert_eq!(
        handles.get(Kind::Stream, 16),
        Err(CudaError::INVALID_HANDLE)
    );
}

#[test]
fn the_number_of_handles_is_bounded() {
    let handles = handles();
    for id in 0..MAX_CONTEXTS as u64 {
        handles.insert(Kind::Context, 16 + id, at(0x1000)).unwrap();
    }
    assert_eq!(
        handles.insert(Kind::Context, 3, at(0x1000)),
        Err(CudaError::OUT_OF_MEMORY)
    );
    for id in 0..MAX_CONTEXTS as u64 {
        handles.take(Kind::Context, 16 + id).unwrap();
    }
    for id in 0..MAX_HANDLES as u64 {
        handles.insert(Kind::Event, 16 + id, at(0x1000)).unwrap();
    }
    assert_eq!(
        handles.insert(Kind::Event, 3, at(0x1000)),
        Err(CudaError::OUT_OF_MEMORY)
    );
    handles.take(Kind::Event, 16).unwrap();
    assert_eq!(handles.insert(Kind::Event, 3, at(0x1000)), Ok(()));
}
