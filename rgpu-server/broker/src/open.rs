//! Memory of vGPUs for which nothing is reserved. Of a device they have together what is not reserved for others, by what the page of each says that its
//! sessions may hold: all of it together is never more. Who needs more has what is free at once, and what another may hold and does not.

use std::rc::Rc;
use std::time::Duration;

use rgpu_worker::Page;

use crate::server::Server;

/// How often it is looked whether one needs more; a worker waits 500 ms for that.
const LOOK: Duration = Duration::from_millis(5);

impl Server {
    fn open_pages(&self) -> Vec<Rc<Page>> {
        let vgpus = self.admission.borrow().open();
        self.pages_of(vgpus)
    }

    fn pages_of(&self, vgpus: Vec<u64>) -> Vec<Rc<Page>> {
        let pages = vgpus.into_iter().map(|vgpu| self.desk.page(vgpu));
        pages.flatten().collect()
    }

    /// Before anything is reserved: nobody may hold more than now of what is not reserved, and that is not there for a reservation. [`Server::share_out`]
    /// comes after it.
    pub fn survey(&self) {
        if self.tenancy().profiles.is_empty() {
            return;
        }
        let pages = self.open_pages();
        self.desk.was_limited.set(true);
        let mut admission = self.admission.borrow_mut();
        for device in 0..admission.placement.devices().count() {
            let held = pages.iter().map(|page| page.freeze(device));
            let held = held.fold(0, u64::saturating_add);
            admission.placement.set_open(device as u32, held);
        }
    }

    /// Lets those for whom nothing is reserved hold what is not reserved now.
    pub fn share_out(&self) {
        let devices: Vec<_> = self.admission.borrow().placement.devices().collect();
        let is_limited = devices.iter().any(|device| is_limited(*device));
        let mut new = self.desk.new.take();
        // As long as nothing is reserved there is nothing to tell those who may have everything already.
        let pages = if self.desk.was_limited.replace(is_limited) || is_limited {
            self.open_pages()
        } else {
            let admission = self.admission.borrow();
            new.retain(|vgpu| admission.is_open(*vgpu));
            drop(admission);
            self.pages_of(new)
        };
        if pages.is_empty() {
            return;
        }
        for (device, (total, reserved)) in devices.into_iter().enumerate() {
            share(&pages, device, total, reserved);
        }
        self.desk.shared.notify_one();
    }

    /// Whether anybody may need what another may hold.
    fn is_shared(&self) -> bool {
        let admission = self.admission.borrow();
        let mut devices = admission.placement.devices();
        devices.any(|(_, reserved)| reserved > 0) && !self.open_pages().is_empty()
    }

    fn anyone_wants(&self) -> bool {
        let pages = self.open_pages();
        let devices = self.admission.borrow().placement.devices().count();
        (0..devices).any(|device| pages.iter().any(|page| page.wants(device)))
    }
}

pub async fn watch(server: Rc<Server>) {
    loop {
        if !server.is_shared() {
            server.desk.shared.notified().await;
            continue;
        }
        tokio::time::sleep(LOOK).await;
        if server.anyone_wants() {
            server.share_out();
        }
    }
}

/// Whether something of a device, as [`rgpu_quota::Placement::devices`] tells it, is reserved. Of one of which nothing is known nothing can be said either.
fn is_limited((total, reserved): (u64, u64)) -> bool {
    total > 0 && reserved > 0
}

/// All that is free goes to one that needs more, or else to all alike.
fn share(pages: &[Rc<Page>], device: usize, total: u64, reserved: u64) {
    if !is_limited((total, reserved)) {
        for page in pages {
            page.allow(device, u64::MAX);
            page.has_answer(device);
        }
        return;
    }
    let held: Vec<u64> = pages.iter().map(|page| page.freeze(device)).collect();
    let all = held.iter().copied().fold(reserved, u64::saturating_add);
    let free = total.saturating_sub(all);
    let needs = pages.iter().position(|page| page.wants(device));
    let alike = free / pages.len().max(1) as u64;
    for (at, (page, held)) in pages.iter().zip(held).enumerate() {
        let more = match needs {
            Some(one) if one == at => free,
            Some(_) => 0,
            None => alike,
        };
        page.allow(device, held.saturating_add(more));
        if needs == Some(at) {
            page.has_answer(device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_reserved_is_shared_and_never_more() {
        let pages = [0, 1].map(|_| Rc::new(Page::create().unwrap()));
        let allowed = || [0, 1].map(|at: usize| pages[at].allowed(0));
        share(&pages, 0, 100, 0);
        assert_eq!(allowed(), [u64::MAX; 2]);
        share(&pages, 0, 100, 40);
        assert_eq!(allowed(), [30, 30]);
        let file = pages[1].file().try_clone_to_owned().unwrap();
        let row = rgpu_worker::Row {
            page: Page::join(file).unwrap(),
            row: 0,
        };
        assert!(row.claim_of(0, 0, 30));
        std::thread::scope(|scope| {
            let claims = scope.spawn(|| row.claim_of(0, 30, 60));
            while !pages[1].wants(0) {
                std::thread::yield_now();
            }
            share(&pages, 0, 100, 40);
            assert_eq!(allowed(), [0, 60]);
            assert!(claims.join().unwrap());
        });
        // More has been reserved than there is beside them: they keep what they have.
        share(&pages, 0, 100, 90);
        assert_eq!(allowed(), [0, 60]);
    }
}
