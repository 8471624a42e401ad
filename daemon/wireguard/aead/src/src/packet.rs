//! What is sealed and opened: where it stands, and its counter.

/// Bytes of the authentication tag behind the text.
pub const TAG_LEN: usize = 16;

/// Bytes of the longest packet, tag included: more does not fit into a datagram.
pub const MAX_PACKET_LEN: usize = 65_535;

/// One packet of a group: the text and room for its tag (to seal), or ciphertext and tag (to open), in place.
/// It borrows the caller's buffer, so that the packets of one send or receive buffer are `chunks_mut` of it.
#[derive(Debug)]
pub struct Packet<'a> {
    counter: u64,
    bytes: &'a mut [u8],
    is_authentic: bool,
}

impl<'a> Packet<'a> {
    /// A packet whose nonce is four zero bytes and `counter` in little-endian order. The last [`TAG_LEN`]
    /// bytes are the tag. `None` if there is no room for a tag, or if it is longer than [`MAX_PACKET_LEN`].
    #[inline]
    pub fn new(counter: u64, bytes: &'a mut [u8]) -> Option<Self> {
        (TAG_LEN..=MAX_PACKET_LEN).contains(&bytes.len()).then_some(Self {
            counter,
            bytes,
            is_authentic: false,
        })
    }

    /// The plaintext, if the packet was opened and its tag was right.
    #[inline]
    pub fn into_plaintext(self) -> Option<&'a mut [u8]> {
        let length = self.text_len();
        self.is_authentic.then(|| &mut self.bytes[..length])
    }

    /// Whether the packet was opened and its tag was right.
    #[inline]
    pub fn is_authentic(&self) -> bool {
        self.is_authentic
    }

    #[inline]
    pub fn counter(&self) -> u64 {
        self.counter
    }

    #[inline]
    pub(crate) fn text_len(&self) -> usize {
        self.bytes.len() - TAG_LEN
    }

    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    #[inline]
    pub(crate) fn text(&self) -> &[u8] {
        &self.bytes[..self.text_len()]
    }

    #[inline]
    pub(crate) fn text_mut(&mut self) -> &mut [u8] {
        self.text_and_tag().0
    }

    #[inline]
    pub(crate) fn text_and_tag(&mut self) -> (&mut [u8], &mut [u8; TAG_LEN]) {
        self.bytes
            .split_last_chunk_mut()
            .expect("`new` asks for room for the tag")
    }

    #[inline]
    pub(crate) fn set_authentic(&mut self, is_authentic: bool) {
        self.is_authentic = is_authentic;
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}
