//! Declarations of textures, samplers and surfaces: `.global .samplerref s = { filter_mode = linear };`

use super::*;

/// What an initialiser has at most; the types have fewer fields.
const MAX_FIELDS: usize = 64;

impl Parser<'_> {
    /// Opaque variables are alone, and lie where the driver finds them.
    pub(super) fn check_opaque(
        &self,
        ty: DeclaredType,
        space: Space,
        declared: &Declarator,
    ) -> Result<()> {
        if ty.opaque.is_none() {
            return Ok(());
        }
        let size = u64::from(ty.element.size());
        if matches!(space, Space::Global | Space::Param) && declared.size == size {
            return Ok(());
        }
        let message = format!(
            "`{}`: textures, samplers and surfaces are single variables of `.global`, or parameters",
            declared.name
        );
        self.error_at(declared.span, message)
    }

    /// `{ addr_mode_0 = wrap, filter_mode = nearest }`
    pub(super) fn fields(&mut self) -> Result<Vec<Init>> {
        let mut fields = Vec::new();
        self.need('{')?;
        while !self.eat('}') {
            if fields.len() == MAX_FIELDS {
                return self.expected(&format!("no more than {MAX_FIELDS} fields"));
            }
            let name = self.word("the name of a field")?.to_owned();
            self.need('=')?;
            let value = match self.peek() {
                Token::Word(word) => {
                    self.advance();
                    word.to_owned()
                }
                _ => self.int("the value of a field")?.to_string(),
            };
            fields.push(Init::Field { name, value });
            if !self.is('}') {
                self.need(',')?;
            }
        }
        Ok(fields)
    }

    /// `.tex .u32 a, b;` is what `.global .texref a, b;` became; the type says nothing.
    pub(super) fn old_textures(
        &mut self,
        linkage: Linkage,
        into: &mut Vec<Variable>,
    ) -> Result<()> {
        self.declared_type()?;
        let ty = DeclaredType {
            element: ScalarType::B64,
            vector: 1,
            align: 0,
            opaque: Some(Opaque::Texture),
            managed: false,
        };
        loop {
            let declared = self.declarator(ty)?;
            self.check_opaque(ty, Space::Global, &declared)?;
            into.push(Variable {
                name: declared.name,
                space: Space::Global,
                linkage,
                element: ty.element,
                opaque: ty.opaque,
                managed: false,
                vector: 1,
                size: declared.size,
                align: declared.align,
                init: Vec::new(),
                span: declared.span,
            });
            if !self.eat(',') {
                return self.need(';');
            }
        }
    }
}
